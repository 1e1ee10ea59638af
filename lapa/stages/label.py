"""Stage `label`: latent actions for every timestep, shard by shard, each complete or absent."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from lapa import files
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.labels import EpisodeLabels, Labels, LabelStamp, LabelWriter
from lapa.data.stream import shard_episodes
from lapa.data.windows import window_of
from lapa.errors import LabelMismatch
from lapa.models.latent_action.model import LatentActionModel, load_latent_action_model
from lapa.stages.context import Stage, open_stage
from lapa.stages.results import Artifact
from lapa.training.distributed import Launch, Ranks, joined_ranks
from lapa.types.batches import FramePair

logger = logging.getLogger(__name__)


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Label the shards that have no labels yet; ranks take turns over them."""
    with open_stage(run, "label") as stage, joined_ranks() as ranks:
        model = load_latent_action_model(stage.inputs["laq"].url).to(_device(run)).eval()
        outputs: dict[str, Artifact] = {}
        metrics: dict[str, float] = {}
        for role, name in (("videos", "labels"), ("robot", "robot-labels")):
            if role not in stage.inputs:
                continue
            dataset = Dataset.open(stage.inputs[role].url)
            outputs[name], usage = _label(stage, ranks, dataset, model, files.join(stage.folder, name))
            metrics |= {f"{role}/{key}": value for key, value in usage.items()}
        stage.tracker.log_metrics(metrics, step=0)
        stage.finish(outputs=outputs, metrics=metrics)


def _label(
    stage: Stage, ranks: Ranks, dataset: Dataset, model: LatentActionModel, url: str
) -> tuple[Artifact, dict[str, float]]:
    """Labels of one dataset, complete when this returns; on rank 0 also how the codes are used."""
    writer = LabelWriter(url, _stamp(stage, dataset, model))
    _label_shards(stage, ranks, dataset, model, writer)
    ranks.any_of(False)  # a barrier: the manifest is written when every rank's shards are there
    if not stage.is_main:
        return Artifact(url=url, digest=""), {}
    artifact = Artifact(url=url, digest=writer.finish(dataset))
    return artifact, _usage(Labels.open(url), dataset, model)


def _device(run: RunConfig) -> torch.device:
    wants_cuda = run.engine.device == "cuda" or (run.engine.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda", Launch.from_environment().local_rank) if wants_cuda else torch.device("cpu")


def _stamp(stage: Stage, dataset: Dataset, model: LatentActionModel) -> LabelStamp:
    return LabelStamp(
        dataset_revision=dataset.revision,
        labeller_digest=stage.inputs["laq"].digest,
        labeller_kind="latent-action",
        window_seconds=stage.run.laq.window_seconds,
        image_size=model.config.image_size,
        codes_per_pair=model.config.codes_per_pair,
        codebook_size=model.config.codebook_size,
    )


def _label_shards(stage: Stage, ranks: Ranks, dataset: Dataset, model: LatentActionModel, writer: LabelWriter) -> None:
    mine = _missing_shards(ranks, dataset, writer)[ranks.rank :: ranks.world_size]
    started, pairs_done = time.monotonic(), 0
    for done, shard in enumerate(mine, start=1):
        episodes = list(_shard_labels(stage.run, dataset, shard, model))
        writer.write_shard(shard, episodes)
        pairs_done += sum(len(episode.codes) for episode in episodes)
        seconds = max(time.monotonic() - started, 1e-9)
        pairs = f"{pairs_done / seconds:.0f} pairs/s"
        stage.progress("label", step=done, steps=len(mine), rate=done / seconds, unit="shards", message=pairs)
        logger.info("shard=%d episodes=%d speed=%r", shard, len(episodes), pairs)


def _missing_shards(ranks: Ranks, dataset: Dataset, writer: LabelWriter) -> list[int]:
    """Rank 0's list, on every rank: one that looks later sees a shorter list. LabelMismatch on every rank alike."""
    found: dict[str, Any] = {}
    if ranks.rank == 0:
        try:
            found = {"missing": writer.missing_shards(dataset)}
        except LabelMismatch as error:
            found = {"mismatch": str(error)}
    found = json.loads(ranks.broadcast_text(json.dumps(found)))
    if "mismatch" in found:
        raise LabelMismatch(found["mismatch"])
    missing: list[int] = found["missing"]
    return missing


def _shard_labels(run: RunConfig, dataset: Dataset, shard: int, model: LatentActionModel) -> Iterator[EpisodeLabels]:
    names = dataset.index.column("episode")
    rates = dataset.index.column("fps")
    for row, frames in shard_episodes(dataset, shard):
        window = window_of(run.laq.window_seconds, rates[row].as_py())
        codes, vectors = label_episode(model, frames, window=window, batch_size=run.label.batch_size)
        yield EpisodeLabels(episode=names[row].as_py(), codes=codes, vectors=vectors)


@torch.inference_mode()
def label_episode(
    model: LatentActionModel,
    frames: UInt8[np.ndarray, "t h w 3"],
    *,
    window: int,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes (t-window, n) and vectors (t-window, n, d) of each timestep whose future is inside the episode."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).to(next(model.parameters()).device)
    pairs = max(len(images) - window, 0)
    codes, vectors = [], []
    for start in range(0, pairs, batch_size):
        stop = min(start + batch_size, pairs)
        action = model.encode(FramePair(current=images[start:stop], future=images[start + window : stop + window]))
        codes.append(action.codes.cpu())
        vectors.append(action.vectors.float().cpu())
    if not codes:
        none = (0, model.config.codes_per_pair)
        return np.zeros(none, np.int64), np.zeros((*none, model.quantizer.latent_width), np.float32)
    return torch.cat(codes).numpy(), torch.cat(vectors).numpy()


def _usage(labels: Labels, dataset: Dataset, model: LatentActionModel) -> dict[str, float]:
    """How the codes are used over the whole dataset."""
    rows = [labels.codes_of(row) for row in range(dataset.info.num_episodes)]
    codes = np.concatenate(rows)
    joint = np.unique(codes, axis=0, return_counts=True)[1] / max(len(codes), 1)
    single = np.bincount(codes.reshape(-1), minlength=model.config.codebook_size) / max(codes.size, 1)
    return {
        "pairs": float(len(codes)),
        "perplexity": _perplexity(single),
        "joint_perplexity": _perplexity(joint),
        "joint_codes_used": float(len(joint)),
    }


def _perplexity(shares: np.ndarray) -> float:
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))
