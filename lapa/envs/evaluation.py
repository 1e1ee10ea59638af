"""Closed-loop success of a policy in any simulator: episodes stepped together, so that the policy sees batches.

Episodes are dealt to shards of a fixed size. A shard is evaluated whole, in one process, by a policy made for it,
so outcomes do not depend on the number of processes.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from lapa import timesheet
from lapa.data.pool import worker_pool
from lapa.envs.results import EpisodeResults, joined
from lapa.envs.simulator import Policy, SimulatedEpisode, Simulator
from lapa.errors import PolicyError
from lapa.process import available_cores
from lapa.types.episodes import Frame, Observation

SHARD_EPISODES = 32
"""Episodes that are stepped together: the largest batch that a policy sees."""

PolicyFactory = Callable[[int], Policy]
"""The policy for shard number `n`. Picklable; called in the process that evaluates the shard."""
Progress = Callable[[int], None]
"""Told how many episodes are over."""


def evaluate(
    policy: Policy,
    simulator: Simulator,
    *,
    execute: int | None = None,
    film: Collection[int] = (),
    progress: Progress | None = None,
) -> EpisodeResults:
    """Run `policy` through the simulator's episodes, in this process.

    A chunk is executed without looking: its first `execute` actions, or all of them. Frames of the episodes
    numbered in `film` are kept.
    Raises PolicyError when the policy answers with the wrong number of chunks or impossible actions.
    """

    def factory(shard: int) -> Policy:
        return policy

    return evaluate_in_processes(factory, simulator, execute=execute, film=film, progress=progress, workers=1)


def evaluate_in_processes(
    factory: PolicyFactory,
    simulator: Simulator,
    *,
    execute: int | None = None,
    film: Collection[int] = (),
    progress: Progress | None = None,
    workers: int | None = None,
) -> EpisodeResults:
    """`evaluate` on all cores, or `workers` of them, each process with policies of its own from `factory`."""
    run = partial(_policy_shard, factory, simulator, execute, frozenset(film))
    return _over_shards(run, simulator.num_episodes, workers, progress)


def expert_results(simulator: Simulator, *, workers: int | None = 1) -> EpisodeResults:
    """The scripted expert on the same episodes: the ceiling. It looks at no picture, so one process does."""
    return _over_shards(partial(_expert_shard, simulator), simulator.num_episodes, workers, None)


def _over_shards(
    run: Callable[[int], EpisodeResults], episodes: int, workers: int | None, progress: Progress | None
) -> EpisodeResults:
    shards = range(-(-episodes // SHARD_EPISODES))
    processes = min(workers or available_cores(), len(shards))
    tell = progress or (lambda done: None)
    results: list[EpisodeResults] = []
    with ExitStack() as stack:
        if processes > 1:
            remedy = "Free some memory, or evaluate on fewer cores (taskset), and run the same command again."
            pool = stack.enter_context(worker_pool(processes, work="the evaluation", remedy=remedy))
            parts = pool.map(run, shards)
        else:
            parts = map(run, shards)
        for part in parts:
            results.append(part)
            tell(sum(len(done.seeds) for done in results))
    return joined(results)


def _episodes_of(shard: int, simulator: Simulator) -> range:
    return range(shard * SHARD_EPISODES, min((shard + 1) * SHARD_EPISODES, simulator.num_episodes))


@dataclass
class _Seat:
    """An episode under way, and what is left of its action chunk."""

    episode: SimulatedEpisode
    steps: int = 0
    actions: deque[np.ndarray] = field(default_factory=deque)
    frames: list[Frame] | None = None
    """Where the episode is filmed."""

    def step(self) -> None:
        self.episode.step(self.actions.popleft())
        self.steps += 1
        self.look()

    def look(self) -> None:
        if self.frames is not None:
            self.frames.append(self.episode.image)


def _policy_shard(
    factory: PolicyFactory, simulator: Simulator, execute: int | None, film: frozenset[int], shard: int
) -> EpisodeResults:
    numbers = _episodes_of(shard, simulator)
    with ExitStack() as stack:
        stack.enter_context(timesheet.part("simulator", f"episodes from {numbers.start}"))
        with timesheet.part("policy"):
            policy = factory(shard)
        seats = {index: _seat(simulator, index, index in film, stack) for index in numbers}
        running = list(seats.values())
        while running:
            _refill(policy, [seat for seat in running if not seat.actions], simulator, execute)
            for seat in running:
                seat.step()
            running = [seat for seat in running if not seat.episode.is_over]
        return _results(seats)


def _expert_shard(simulator: Simulator, shard: int) -> EpisodeResults:
    seats: dict[int, _Seat] = {}
    with ExitStack() as stack:
        stack.enter_context(timesheet.part("oracle"))
        for index in _episodes_of(shard, simulator):
            seat = seats[index] = _seat(simulator, index, False, stack)
            while not seat.episode.is_over:
                seat.actions.append(seat.episode.expert_action())
                seat.step()
        return _results(seats)


def _seat(simulator: Simulator, index: int, is_filmed: bool, stack: ExitStack) -> _Seat:
    episode = simulator.episode(index)
    stack.callback(episode.close)
    seat = _Seat(episode, frames=[] if is_filmed else None)
    seat.look()
    return seat


def _refill(policy: Policy, waiting: Sequence[_Seat], simulator: Simulator, execute: int | None) -> None:
    if not waiting:
        return
    episodes = [seat.episode for seat in waiting]
    observations = [Observation(image=episode.image, proprioception=episode.proprioception) for episode in episodes]
    with timesheet.part("policy"):
        chunks = policy(observations, [episode.instruction for episode in episodes])
    if len(chunks) != len(waiting):
        raise PolicyError(f"The policy answered {len(waiting)} observations with {len(chunks)} action chunks.")
    names = simulator.action_names
    for seat, chunk in zip(waiting, chunks, strict=True):
        actions = np.asarray(chunk.actions)
        is_finite = bool(np.isfinite(actions).all())
        if actions.ndim != 2 or actions.shape[1] != len(names) or not len(actions) or not is_finite:
            raise PolicyError(
                f"The policy gave an action chunk of shape {actions.shape}, finite: {is_finite}. The {simulator.name} "
                f"takes finite chunks [k, {len(names)}] of ({', '.join(names)}); was the policy finetuned on another "
                "robot?"
            )
        seat.actions.extend(actions[:execute])


def _results(seats: dict[int, _Seat]) -> EpisodeResults:
    episodes = [seat.episode for seat in seats.values()]
    return EpisodeResults(
        seeds=tuple(episode.seed for episode in episodes),
        kinds=tuple(episode.kind for episode in episodes),
        splits=tuple(episode.split for episode in episodes),
        instructions=tuple(episode.instruction for episode in episodes),
        success=np.array([episode.success for episode in episodes]),
        steps=np.array([seat.steps for seat in seats.values()], dtype=np.int64),
        videos={index: np.stack(seat.frames) for index, seat in seats.items() if seat.frames is not None},
    )
