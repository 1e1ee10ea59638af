"""A work folder as a whole run leaves it, with a real policy bundle and made-up results, in a second."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lapa import files
from lapa.config.vla import L1Head
from lapa.envs.results import EpisodeResults
from lapa.models.vla.model import build_vla
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.stages.origin import everything_behind, licences_of
from lapa.stages.results import Artifact, StageResult, write_result
from lapa.tracking.registry import LAQ_MODEL, VLA_MODEL, Registry
from tests.builders import make_dataset
from tests.models.vla.models import small_convolutional, spec_of

EPISODES = 60
HEALTHY = {"perplexity": 6.0, "joint_perplexity": 40.0, "dead_share": 0.0, "probe_r2/additive": 0.5}
BENCHMARK = {"kind": "tabletop", "episodes": EPISODES, "image_size": 48}


@dataclass(frozen=True)
class Made:
    """Where things are."""

    work: Path
    finetune: str
    digest: str
    videos: Artifact
    laq: Artifact


def make_run(work: Path, *, seed: int = 0, successes: int | None = 54, licence: str = "CC0-1.0") -> Made:
    """Datasets, the folders of all stages, and an evaluation in which the first `successes` episodes succeed."""
    videos = _dataset(work / "datasets" / "videos", actions=False, licence=licence)
    robot = _dataset(work / "datasets" / "robot", actions=True, licence="CC0-1.0")
    laq = Artifact(url=str(work / "laq-1" / "model"), digest="1a0" * 12)
    files.write_json(files.join(laq.url, "config.json"), {})
    labels = Artifact(url=str(work / "label-1" / "labels"), digest="1abe1" * 8)
    vla = Artifact(url=str(work / "pretrain-1" / "model"), digest="91a" * 12)
    files.write_json(files.join(vla.url, "config.json"), {})
    leave(work, "laq-1", {"videos": videos}, {"model": laq}, HEALTHY)
    leave(work, "label-1", {"videos": videos, "laq": laq}, {"labels": labels})
    leave(work, "pretrain-1", {"videos": videos, "labels": labels, "laq": laq}, {"model": vla})
    inputs = {"robot": robot, "pretrain": vla}
    policy = _policy(work / f"finetune-{seed}", inputs, seed)
    leave(work, f"finetune-{seed}", inputs, {"policy": policy}, {"held_out/ratio": 0.4})
    if successes is not None:
        evaluate(work, seed, policy, [index < successes for index in range(EPISODES)], robot)
    return Made(work, str(work / f"finetune-{seed}"), policy.digest, videos, laq)


def register_ancestors(registry: Registry, made: Made, metrics: dict[str, float] = HEALTHY) -> None:
    """What stages laq and pretrain register."""
    tags = {f"lapa.metric.{name.replace('/', '.')}": str(value) for name, value in metrics.items()}
    registry.register(
        LAQ_MODEL, made.laq.url, digest=made.laq.digest, inputs={"videos": made.videos.model_dump()}, tags=tags
    )
    result = json.loads((made.work / "pretrain-1" / "result.json").read_text())
    model = result["outputs"]["model"]
    registry.register(VLA_MODEL, model["url"], digest=model["digest"], inputs=result["inputs"])


def evaluate(work: Path, seed: int, policy: Artifact, successes: Sequence[bool], robot: Artifact) -> None:
    """The folder that stage evaluate leaves."""
    episodes = len(successes)
    summary = EpisodeResults(
        seeds=tuple(range(episodes)),
        kinds=("reach",) * episodes,
        splits=(None,) * episodes,
        instructions=("reach the star",) * episodes,
        success=np.array(successes),
        steps=np.full(episodes, 7),
    ).summary()
    folder = f"evaluate-{seed}"
    files.write_json(str(work / folder / "episodes.json"), {"policy": summary, "benchmark": BENCHMARK})
    metrics = {"success_rate": summary["success_rate"]}
    leave(work, folder, {"robot": robot, "policy": policy}, {}, metrics)


def leave(
    work: Path,
    folder: str,
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    metrics: dict[str, float] | None = None,
) -> None:
    """A stage's `result.json`."""
    write_result(
        StageResult(
            stage=folder.split("-")[0],
            name="toy",
            fingerprint=folder,
            folder=str(work / folder),
            inputs=inputs,
            outputs=outputs,
            metrics=metrics or {},
            tracking={"run_id": "", "url": None},
        )
    )


def _policy(folder: Path, inputs: dict[str, Artifact], seed: int) -> Artifact:
    torch.manual_seed(seed)
    model = build_vla(spec_of(small_convolutional(), L1Head(horizon=2), latent=False, frame_size=24))
    save_vla(folder / "model", model)
    behind = everything_behind(inputs)
    digest = export_bundle(
        folder / "policy",
        str(folder / "model"),
        lineage={path: artifact.digest for path, artifact in behind.items()},
        licences=licences_of(behind),
        resolved_run={"seed": seed, "finetune": {"steps": 20}},
    )
    return Artifact(url=str(folder / "policy"), digest=digest)


def _dataset(folder: Path, *, actions: bool, licence: str) -> Artifact:
    if not (folder / "dataset.json").exists():
        make_dataset(folder, episodes=2, frames=4, actions=actions, licence=licence, seed=int(actions))
    return Artifact(url=str(folder), digest=json.loads((folder / "dataset.json").read_text())["revision"])
