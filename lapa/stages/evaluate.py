"""Stage `evaluate`: how good the policy is, in closed loop and against held-out actions, with intervals."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import torch

from lapa import files, timesheet
from lapa.config.base import result_settings
from lapa.config.run import RunConfig
from lapa.config.stages import EvaluateConfig, FinetuneConfig, SimulatorConfig
from lapa.data.dataset import Dataset
from lapa.envs.build import build_simulator
from lapa.envs.evaluation import PolicyFactory, evaluate_in_processes, expert_results
from lapa.envs.film import contact_sheet, episode_video, video_name
from lapa.envs.results import EpisodeResults
from lapa.errors import ConfigError, PolicyError
from lapa.policy.agreement import check_robot
from lapa.policy.bundle import load_bundle
from lapa.policy.held_out import held_out_error
from lapa.policy.policy import Policy
from lapa.stages.accounted import accounted
from lapa.stages.agreement import conventions_of
from lapa.stages.context import Stage, open_stage
from lapa.stages.evaluated import JudgedPolicy, find_judged, kind_of, open_registry, pinned, server_token
from lapa.stages.results import RESULT_FILE, Artifact
from lapa.tracking.evidence import (
    OUTCOMES_ARTIFACT,
    OUTCOMES_FILE,
    attach_evaluation,
    evaluation_of,
    evaluation_tags,
)
from lapa.tracking.registry import POLICY_MODEL
from lapa.types.episodes import ActionChunk

logger = logging.getLogger(__name__)

SHOWN_EPISODES = 12


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Drive the simulator with the policy, compare held-out actions, write both down.

    Of a policy that the run did not make, held-out episodes are not known: it is judged in closed loop alone.
    """
    config, finetune = run.evaluate, run.finetune
    if config is None or (finetune is None and config.policy is None):
        raise ConfigError("this run has no evaluate or no finetune stage; remove the null or choose another run")
    with open_stage(pinned(run), "evaluate") as stage:
        metrics: dict[str, float] = {}
        messages: list[str] = []
        evidence: dict[str, str] = {}
        with accounted(stage, _limits(config)):
            if config.policy is None:
                assert finetune is not None
                dataset = Dataset.open(stage.inputs["robot"].url, reads=run.reads)
                check_robot(stage.inputs["policy"].url, conventions_of(dataset))
                stage.progress("held-out actions")
                with timesheet.part("held-out actions"):
                    # Not kept: the closed loop loads policies of its own, and an accelerator may hold no second one.
                    metrics, messages = held_out_numbers(load_bundle(stage.inputs["policy"].url), dataset, finetune)
                contender = _own_policy(stage.inputs["policy"].url, dataset)
            else:
                contender = _other_policy(find_judged(stage.run), stage.inputs["policy"], config.simulator)
            if config.simulator is not None:
                closed_loop, verdict = _closed_loop(stage, contender, config, config.simulator)
                metrics |= closed_loop
                messages.append(verdict)
                evidence = evidence_of(stage)
        stage.tracker.log_metrics(metrics, step=0)
        _finish(stage, metrics, messages, evidence)


def _limits(config: EvaluateConfig) -> dict[str, str]:
    """What an evaluation that spends its time on a part is limited by: a server's time is also the way to it."""
    is_served = config.policy is not None and kind_of(config.policy) == "server"
    policy = "server" if is_served else "policy"
    return {"simulator": "simulator", "oracle": "simulator", "policy": policy, "held-out actions": policy}


def _finish(stage: Stage, metrics: dict[str, float], messages: list[str], evidence: Mapping[str, str]) -> None:
    """Attach the evaluation to the policy where it is registered, and complete the stage."""
    report = files.join(stage.folder, "evaluation.json")
    files.write_json(report, {"metrics": metrics, "messages": messages})
    registered = _attach(stage, metrics, messages, evidence)
    artifact = Artifact(url=report, digest=files.digest(files.read_bytes(report)))
    stage.finish(outputs={"report": artifact}, metrics=metrics, messages=messages, registered=registered)


def _attach(
    stage: Stage, metrics: Mapping[str, float], messages: list[str], evidence: Mapping[str, str]
) -> dict[str, Any]:
    """On every registered version that holds the policy; the run's own may not have reached the registry yet."""
    policy, is_own = stage.inputs["policy"], "robot" in stage.inputs
    registered = stage.register(POLICY_MODEL, policy, metrics, evidence=evidence) if is_own else {}
    is_away = is_own and registered.get("version") is None
    if not stage.run.tracking.enabled or not evidence or is_away:
        return registered
    found = attach_evaluation(open_registry(stage.run), policy.digest, metrics=metrics, evidence=evidence)
    if is_own:
        return registered
    if not found:
        messages.append(
            f"No registered version has the digest {policy.digest[:12]}…, so no gate reads this; "
            "register the policy with `lapactl export`, and evaluate again."
        )
        return {}
    messages.append(f"attached to {', '.join(f'{version.name}/{version.version}' for version in found)}")
    return {"model": found[0].name, "version": found[0].version}


def held_out_numbers(policy: Policy, dataset: Dataset, finetune: FinetuneConfig) -> tuple[dict[str, float], list[str]]:
    """Metrics and messages of the comparison with recorded actions; a message alone when none were held out."""
    error = held_out_error(
        policy,
        dataset,
        validation_share=finetune.stream.validation_share,
        use_proprioception=finetune.use_proprioception,
    )
    if error is None:
        nothing = "No episode was held out, so nothing is known about the error on new observations"
        return {}, [f"{nothing}: raise finetune.stream.validation_share, or ingest more robot episodes."]
    metrics = {
        "held_out/ratio": error.ratio,
        "held_out/median_ratio": error.median_ratio,
        "held_out/timesteps": float(error.timesteps),
    }
    for name, mine, mean in zip(error.names, error.policy, error.mean_action, strict=True):
        metrics |= {f"held_out/mae/{name}": float(mine), f"held_out/mean_action_mae/{name}": float(mean)}
    return metrics, [error.verdict]


def policy_for_shard(url: str, shard: int) -> Callable[..., Sequence[ActionChunk]]:
    """The bundle's policy as one shard of episodes meets it, whichever shards its process had before."""
    policy = _loaded(url)
    return Policy(policy.model, digest=policy.digest, device=str(policy.device), seed=shard).act


@lru_cache(maxsize=1)
def _loaded(url: str) -> Policy:
    """One thread each: processes share the cores, and sums do not depend on how many there are."""
    torch.set_num_threads(1)
    return load_bundle(url)


@lru_cache(maxsize=1)
def _asking(url: str, digest: str, has_proprioception: bool, action_names: tuple[str, ...]) -> Callable[..., Any]:
    """One set of connections for each process."""
    from lapa.envs.served import ServedPolicy  # websockets: an optional dependency

    return ServedPolicy(
        url, digest=digest, has_proprioception=has_proprioception, action_names=action_names, token=server_token()
    )


def served_policy_for_shard(
    url: str, digest: str, has_proprioception: bool, action_names: tuple[str, ...], shard: int
) -> Callable[..., Sequence[ActionChunk]]:
    """What robots get from a running server. Policies that draw noise draw the server's, which no shard can set."""
    return _asking(url, digest, has_proprioception, action_names)


@dataclass(frozen=True, kw_only=True)
class _Contender:
    """Who drives the simulator."""

    factory: PolicyFactory
    image_size: int
    through: str = ""
    """The server that answers; empty where the bundle is loaded here."""
    shares_device: bool = True
    """Whether it takes this machine's accelerator, which two processes never share."""


def _own_policy(url: str, dataset: Dataset) -> _Contender:
    return _Contender(factory=partial(policy_for_shard, url), image_size=dataset.info.image_size)


def _other_policy(found: JudgedPolicy, judged: Artifact, simulator: SimulatorConfig | None) -> _Contender:
    """PolicyError when it changed since the stage's folder was named after it."""
    if found.artifact != judged:
        raise PolicyError(f"{judged.url} changed while the evaluation began; run the same command again.")
    assert simulator is not None, "EvaluateConfig checks it"
    if not found.is_served:
        return _Contender(factory=partial(policy_for_shard, judged.url), image_size=found.frame_size)
    names = build_simulator(simulator, image_size=found.frame_size).action_names
    factory = partial(served_policy_for_shard, judged.url, judged.digest, found.proprioception_dims > 0, names)
    return _Contender(factory=factory, image_size=found.frame_size, through=judged.url, shares_device=False)


def _closed_loop(
    stage: Stage, contender: _Contender, config: EvaluateConfig, settings: SimulatorConfig
) -> tuple[dict[str, float], str]:
    url = files.join(stage.folder, OUTCOMES_FILE)
    if files.exists(url) and not files.exists(files.join(stage.folder, RESULT_FILE)):
        # The same policy on the same episodes: an earlier start got so far, and could not attach it.
        outcomes = files.read_json(url)
        stage.resumed(f"all {outcomes['policy']['episodes']} episodes were there")
    else:
        outcomes = _drive(stage, contender, config, settings)
        files.write_json(url, outcomes)
    summary, ceiling = outcomes["policy"], outcomes["oracle"]
    parts = {**summary["kinds"], **summary["splits"]}
    metrics = {
        **_rates("", summary),
        **_rates("oracle_", ceiling),
        **{f"success_rate/{part}": rates["success_rate"] for part, rates in parts.items()},
    }
    verdict = (
        f"closed-loop success {metrics['success_rate']:.1%} "
        f"[{metrics['success_low']:.1%}, {metrics['success_high']:.1%}] over {summary['episodes']} episodes; "
        f"the scripted oracle reaches {metrics['oracle_success_rate']:.1%}"
    )
    return metrics, verdict


def _drive(stage: Stage, contender: _Contender, config: EvaluateConfig, settings: SimulatorConfig) -> dict[str, Any]:
    """Every episode's outcome, the policy's and the oracle's, as `episodes.json` holds them."""
    simulator = build_simulator(settings, image_size=contender.image_size)

    def progress(done: int) -> None:
        stage.progress("closed loop", step=done, unit="episodes", steps=simulator.num_episodes)

    progress(0)
    results = evaluate_in_processes(
        contender.factory,
        simulator,
        film=shown_episodes(simulator.num_episodes),
        progress=progress,
        workers=1 if contender.shares_device and torch.cuda.is_available() else None,
    )
    _show(stage, results, simulator.fps)
    expert = expert_results(simulator)
    return {
        "policy": results.summary(config.confidence),
        "oracle": expert.summary(config.confidence),
        "benchmark": {**result_settings(settings), "image_size": contender.image_size},
        **({"through": contender.through} if contender.through else {}),
    }


def evidence_of(stage: Stage) -> dict[str, str]:
    """Every episode's outcome, for the gates of a promotion: kept in MLflow too, and named by a tag of the policy."""
    url = files.join(stage.folder, OUTCOMES_FILE)
    outcomes = files.read_bytes(url)
    stage.tracker.log_text(outcomes.decode(), OUTCOMES_ARTIFACT)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return evaluation_tags(evaluation_of(outcomes, url=url, run_id=stage.tracker.run_id, finished=finished))


def _show(stage: Stage, results: EpisodeResults, fps: float) -> None:
    """The filmed episodes as one picture, and as videos beside `episodes.json`."""
    stage.tracker.log_image(contact_sheet(results), "episodes")
    for index, video in results.videos.items():
        url = files.join(stage.folder, "episodes", video_name(results, index))
        files.write_bytes(url, episode_video(video, fps))


def shown_episodes(episodes: int) -> list[int]:
    """Numbers of the episodes that are filmed: evenly apart, so that kinds and splits in turn all come up."""
    return sorted({round(share * (episodes - 1) / (SHOWN_EPISODES - 1)) for share in range(SHOWN_EPISODES)})


def _rates(prefix: str, summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{prefix}success_rate": summary["success_rate"],
        f"{prefix}success_low": summary["low"],
        f"{prefix}success_high": summary["high"],
        f"{prefix}episodes": float(summary["episodes"]),
    }
