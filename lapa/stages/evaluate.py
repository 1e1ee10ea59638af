"""Stage `evaluate`: how good the policy is, in closed loop and against held-out actions, with intervals."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import torch

from lapa import files
from lapa.config.base import result_settings
from lapa.config.run import RunConfig
from lapa.config.stages import EvaluateConfig, FinetuneConfig, SimulatorConfig
from lapa.data.dataset import Dataset
from lapa.envs.build import build_simulator
from lapa.envs.evaluation import evaluate_in_processes, expert_results
from lapa.envs.film import contact_sheet, episode_video, video_name
from lapa.envs.results import EpisodeResults
from lapa.errors import ConfigError
from lapa.policy.bundle import load_bundle
from lapa.policy.held_out import held_out_error
from lapa.policy.policy import Policy
from lapa.stages.context import Stage, open_stage
from lapa.stages.results import Artifact
from lapa.tracking.evidence import OUTCOMES_ARTIFACT, OUTCOMES_FILE, evaluation_of, evaluation_tags
from lapa.tracking.registry import POLICY_MODEL
from lapa.types.episodes import ActionChunk

logger = logging.getLogger(__name__)

SHOWN_EPISODES = 12


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Drive the simulator with the policy, compare held-out actions, write both down."""
    config, finetune = run.evaluate, run.finetune
    if config is None or finetune is None:
        raise ConfigError("this run has no evaluate or no finetune stage; remove the null or choose another run")
    with open_stage(run, "evaluate") as stage:
        dataset = Dataset.open(stage.inputs["robot"].url, reads=run.reads)
        stage.progress("held-out actions")
        # Not kept: the closed loop loads policies of its own, and an accelerator may hold no second one.
        metrics, messages = held_out_numbers(load_bundle(stage.inputs["policy"].url), dataset, finetune)
        evidence: dict[str, str] = {}
        if config.simulator is not None:
            closed_loop, verdict = _closed_loop(stage, dataset, config, config.simulator)
            metrics |= closed_loop
            messages.append(verdict)
            evidence = evidence_of(stage)
        stage.tracker.log_metrics(metrics, step=0)
        report = files.join(stage.folder, "evaluation.json")
        files.write_json(report, {"metrics": metrics, "messages": messages})
        artifact = Artifact(url=report, digest=files.digest(files.read_bytes(report)))
        stage.finish(
            outputs={"report": artifact},
            metrics=metrics,
            messages=messages,
            registered=stage.register(POLICY_MODEL, stage.inputs["policy"], metrics, evidence=evidence),
        )


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


def _closed_loop(
    stage: Stage, dataset: Dataset, config: EvaluateConfig, settings: SimulatorConfig
) -> tuple[dict[str, float], str]:
    simulator = build_simulator(settings, image_size=dataset.info.image_size)

    def progress(done: int) -> None:
        stage.progress("closed loop", step=done, unit="episodes", steps=simulator.num_episodes)

    progress(0)
    results = evaluate_in_processes(
        partial(policy_for_shard, stage.inputs["policy"].url),
        simulator,
        film=shown_episodes(simulator.num_episodes),
        progress=progress,
        # An accelerator is shared by no two processes.
        workers=1 if torch.cuda.is_available() else None,
    )
    _show(stage, results, simulator.fps)
    expert = expert_results(simulator)
    summary, ceiling = results.summary(config.confidence), expert.summary(config.confidence)
    benchmark = {**result_settings(settings), "image_size": dataset.info.image_size}
    outcomes = {"policy": summary, "oracle": ceiling, "benchmark": benchmark}
    files.write_json(files.join(stage.folder, OUTCOMES_FILE), outcomes)
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
