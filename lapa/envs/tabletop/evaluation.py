"""Closed-loop success of a policy: many tables stepped together, so that the policy sees batches."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from lapa.config.stages import TabletopEvaluation
from lapa.envs.statistics import wilson_interval
from lapa.envs.tabletop.env import TabletopEnv
from lapa.envs.tabletop.rollouts import play_oracle
from lapa.envs.tabletop.tasks import TASK_KINDS, TaskKind
from lapa.errors import PolicyError
from lapa.types.episodes import ActionChunk, Observation

Policy = Callable[[Sequence[Observation], Sequence[str]], Sequence[ActionChunk]]
"""Observations and their instructions, as a batch -> one action chunk each."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResults:
    """What happened in `n` episodes; two policies with equal `seeds` began in the same states."""

    seeds: tuple[int, ...]
    kinds: tuple[TaskKind, ...]
    instructions: tuple[str, ...]
    success: Bool[np.ndarray, " n"]
    steps: Int64[np.ndarray, " n"]
    """Timesteps until success or the limit."""
    videos: tuple[UInt8[np.ndarray, "t h w 3"], ...] = ()
    """Frames of the first few episodes."""

    @property
    def success_rate(self) -> float:
        return float(self.success.mean())

    def summary(self, confidence: float = 0.95) -> dict[str, Any]:
        """Rates with Wilson intervals, over all episodes and per task kind, and every episode's outcome."""
        kinds = np.array(self.kinds)
        return {
            **_rate(self.success, self.steps, confidence),
            "confidence": confidence,
            "kinds": {
                kind: _rate(self.success[kinds == kind], self.steps[kinds == kind], confidence)
                for kind in TASK_KINDS
                if (kinds == kind).any()
            },
            "outcomes": [
                {"seed": seed, "kind": kind, "instruction": instruction, "success": bool(success), "steps": int(steps)}
                for seed, kind, instruction, success, steps in zip(
                    self.seeds, self.kinds, self.instructions, self.success, self.steps, strict=True
                )
            ],
        }


def evaluate(
    policy: Policy,
    config: TabletopEvaluation,
    *,
    image_size: int = 48,
    execute: int | None = None,
    keep_videos: int = 0,
) -> EpisodeResults:
    """Run `policy` on the config's tables and report each episode.

    A chunk is executed without looking: its first `execute` actions, or all of them. The initial states
    depend on the config's seed alone. Frames of the first `keep_videos` episodes are kept.
    Raises PolicyError when the policy answers with the wrong number of chunks or impossible actions.
    """
    envs = [_table(config, index, image_size) for index in range(config.episodes)]
    queues: list[deque[np.ndarray]] = [deque() for _ in envs]
    images = [env.render() for env in envs]
    videos = [[image] for image in images[:keep_videos]]
    success = np.zeros(len(envs), dtype=bool)
    steps = np.zeros(len(envs), dtype=np.int64)
    running = list(range(len(envs)))
    while running:
        _refill(policy, [i for i in running if not queues[i]], envs, images, queues, execute)
        still_running = []
        for i in running:
            observation, _, success[i], truncated, _ = envs[i].step(queues[i].popleft())
            images[i] = observation["image"]
            steps[i] += 1
            if i < keep_videos:
                videos[i].append(images[i])
            if not success[i] and not truncated:
                still_running.append(i)
        running = still_running
    return _results(config, envs, success, steps, tuple(np.stack(frames) for frames in videos))


def oracle_results(config: TabletopEvaluation, *, noise: float = 0.0) -> EpisodeResults:
    """The scripted expert on the same tables: the ceiling."""
    envs = [_table(config, index, image_size=16) for index in range(config.episodes)]
    rollouts = [
        play_oracle(env.task, env.state, env.np_random, noise=noise, max_steps=config.max_steps) for env in envs
    ]
    success = np.array([rollout.success for rollout in rollouts])
    steps = np.array([len(rollout.actions) for rollout in rollouts], dtype=np.int64)
    return _results(config, envs, success, steps, ())


def _table(config: TabletopEvaluation, index: int, image_size: int) -> TabletopEnv:
    """Episode `index`: its own seed, the task kinds in turn."""
    env = TabletopEnv(image_size=image_size, max_steps=config.max_steps)
    env.reset(seed=config.seed + index, options={"kind": _kind(index)})
    return env


def _kind(index: int) -> TaskKind:
    return TASK_KINDS[index % len(TASK_KINDS)]


def _refill(
    policy: Policy,
    waiting: list[int],
    envs: list[TabletopEnv],
    images: list[np.ndarray],
    queues: list[deque[np.ndarray]],
    execute: int | None,
) -> None:
    if not waiting:
        return
    observations = [Observation(image=images[i], proprioception=envs[i].proprioception) for i in waiting]
    chunks = policy(observations, [envs[i].instruction for i in waiting])
    if len(chunks) != len(waiting):
        raise PolicyError(f"The policy answered {len(waiting)} observations with {len(chunks)} action chunks.")
    for i, chunk in zip(waiting, chunks, strict=True):
        actions = np.asarray(chunk.actions)
        finite = bool(np.isfinite(actions).all())
        if actions.ndim != 2 or actions.shape[1] != 2 or not len(actions) or not finite:
            raise PolicyError(
                f"The policy gave an action chunk of shape {actions.shape}, finite: {finite}. The tabletop takes "
                "finite chunks [k, 2] of (dx, dy) in [-1, 1]; was the policy finetuned on another robot?"
            )
        queues[i].extend(actions[:execute])


def _results(
    config: TabletopEvaluation,
    envs: list[TabletopEnv],
    success: np.ndarray,
    steps: np.ndarray,
    videos: tuple[np.ndarray, ...],
) -> EpisodeResults:
    return EpisodeResults(
        seeds=tuple(config.seed + index for index in range(config.episodes)),
        kinds=tuple(_kind(index) for index in range(config.episodes)),
        instructions=tuple(env.instruction for env in envs),
        success=success,
        steps=steps,
        videos=videos,
    )


def _rate(success: np.ndarray, steps: np.ndarray, confidence: float) -> dict[str, Any]:
    interval = wilson_interval(int(success.sum()), len(success), confidence)
    return {
        "episodes": len(success),
        "successes": int(success.sum()),
        "success_rate": float(success.mean()),
        "low": interval.low,
        "high": interval.high,
        "mean_steps": float(steps.mean()),
    }
