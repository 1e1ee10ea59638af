"""Stage `label`: latent actions, or actions, for every timestep, shard by shard, each complete or absent.

Processes share the shards through claims in the store (lapa/data/label_claims.py) and never talk to each other: one
that is slow, or dead, holds up no other.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

import torch

from lapa import files
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.label_claims import Claims, shards_to_label
from lapa.data.labels import AnyLabels, Labels, LabelStamp, LabelWriter
from lapa.data.stream import shard_episodes
from lapa.data.windows import episode_windows
from lapa.stages.context import Stage, open_stage
from lapa.stages.labellers import Labeller, load_labeller
from lapa.stages.learned_from import refuse_other_frames
from lapa.stages.profiled import profiled
from lapa.stages.results import Artifact
from lapa.training.distributed import Launch
from lapa.training.profiling import phase

logger = logging.getLogger(__name__)

_OUTPUTS = {"videos": "labels", "robot": "robot-labels"}
"""By the role of a dataset, what its labels are called."""


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Label the shards that have no labels yet."""
    with open_stage(run, "label") as stage:
        datasets = _datasets(stage)
        labeller = load_labeller(stage.inputs["laq"].url, _device(run))
        outputs: dict[str, Artifact] = {}
        metrics: dict[str, float] = {}
        for role, dataset in datasets.items():
            name = _OUTPUTS[role]
            outputs[name], usage = _label(stage, role, dataset, labeller, files.join(stage.folder, name))
            metrics |= {f"{role}/{key}": value for key, value in usage.items()}
        stage.tracker.log_metrics(metrics, step=0)
        stage.finish(outputs=outputs, metrics=metrics, messages=_verdicts(metrics))


def _datasets(stage: Stage) -> dict[str, Dataset]:
    """By role, all that are to be labelled. ConventionMismatch for one whose frames the labeller does not know."""
    found = {
        role: Dataset.open(stage.inputs[role].url, reads=stage.run.reads) for role in _OUTPUTS if role in stage.inputs
    }
    for role, dataset in found.items():
        refuse_other_frames(stage.inputs["laq"].url, dataset, stage.run.laq.window_seconds, role=role)
    return found


def _label(
    stage: Stage, role: str, dataset: Dataset, labeller: Labeller, url: str
) -> tuple[Artifact, dict[str, float]]:
    """Labels of one dataset, complete when this returns; on rank 0 also numbers about them."""
    writer = LabelWriter(url, _stamp(stage, dataset, labeller))
    _label_shards(stage, role, dataset, labeller, writer)
    if not stage.is_main:
        return Artifact(url=url, digest=""), {}
    artifact = Artifact(url=url, digest=writer.finish(dataset))
    return artifact, labeller.summary(Labels.open(url), dataset)


def _verdicts(metrics: Mapping[str, float]) -> list[str]:
    """What labels that are actions are worth, where somebody recorded the true ones."""
    return [
        f"Of the actions that '{role}' was recorded with, its labels explain {metrics[f'{role}/r2']:.0%} (R2); "
        "no stage learned from them"
        for role in ("videos", "robot")
        if f"{role}/r2" in metrics
    ]


def _device(run: RunConfig) -> torch.device:
    wants_cuda = run.engine.device == "cuda" or (run.engine.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda", Launch.from_environment().local_rank) if wants_cuda else torch.device("cpu")


def _stamp(stage: Stage, dataset: Dataset, labeller: Labeller) -> LabelStamp:
    return LabelStamp(
        dataset_revision=dataset.revision,
        labeller_digest=stage.inputs["laq"].digest,
        labeller_kind=labeller.kind,
        window_seconds=stage.run.laq.window_seconds,
        **labeller.stamp(),
    )


def _label_shards(stage: Stage, role: str, dataset: Dataset, labeller: Labeller, writer: LabelWriter) -> None:
    """Label shards until all have labels. Other ranks, and other jobs, do the same."""
    launch = Launch.from_environment()
    started, pairs_done, total = time.monotonic(), 0, dataset.info.num_shards
    with ExitStack() as stack:
        claims = stack.enter_context(Claims(writer.url, lease_seconds=stage.run.label.lease_seconds))
        shared = shards_to_label(writer, dataset, claims, rank=launch.rank, world_size=launch.world_size)
        # Closed at once where labelling fails or is stopped, so that the shard is free for others.
        shards = stack.enter_context(closing(shared))
        profilers = stack.enter_context(profiled(stage, _device(stage.run)))
        for done, (shard, left) in enumerate(shards, start=1):
            if done == 1 and left < total:
                stage.resumed(f"{total - left} of {total} shards of {role} were there")
            episodes = list(_shard_labels(stage.run, dataset, shard, labeller))
            with phase("writing"):
                writer.write_shard(shard, episodes)
            for profiler in profilers:
                profiler.after_update(done)
            pairs_done += sum(map(len, episodes))
            seconds = max(time.monotonic() - started, 1e-9)
            pairs = f"{pairs_done / seconds:.0f} pairs/s"
            step = total - left + 1
            stage.progress("label", step=step, steps=total, rate=done / seconds, unit="shards", message=pairs)
            logger.info("shard=%d episodes=%d speed=%r", shard, len(episodes), pairs)


def _shard_labels(run: RunConfig, dataset: Dataset, shard: int, labeller: Labeller) -> Iterator[AnyLabels]:
    names = dataset.index.column("episode")
    windows = episode_windows(dataset, run.laq.window_seconds)
    with closing(shard_episodes(dataset, shard, threads=run.label.decode_threads)) as shard_videos:
        while True:
            with phase("data"):
                found = next(shard_videos, None)
            if found is None:
                return
            row, frames = found
            with phase("forward"):
                name, window = names[row].as_py(), int(windows[row])
                labels = labeller.label(name, frames, window=window, batch_size=run.label.batch_size)
            yield labels
