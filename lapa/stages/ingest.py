"""Stage `ingest`: videos and robot logs become datasets of episode shards. Needs no torch."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from lapa import files, timesheet
from lapa.config.base import result_settings
from lapa.config.data import (
    DatasetConfig,
    ExistingDataset,
    IngestConfig,
    LeRobotSource,
    MetaWorldSource,
    MixtureConfig,
    SidecarInstructions,
    SimulatedSource,
    SourceConfig,
    TabletopSource,
    VideoFolderSource,
    parts_of,
)
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.ingest import help_ingest, ingest, is_current
from lapa.data.ingest_peers import ALONE, Peers
from lapa.data.mixture import mix
from lapa.data.mixture_twins import find_mixture_twins
from lapa.envs.metaworld.recording import record as record_metaworld
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.recording import record as record_tabletop
from lapa.stages.accounted import accounted
from lapa.stages.agreement import check_agreement
from lapa.stages.context import Stage, local_folder, open_stage
from lapa.stages.plan import dataset_url, datasets_of, finished, is_whole, part_urls
from lapa.stages.results import Artifact
from lapa.training.signals import SigtermInterrupts

logger = logging.getLogger(__name__)

LIMITS = {
    "list": "data",
    "read": "data",
    **dict.fromkeys(("record", "decode", "scale", "look", "encode", "shard", "index", "mix"), "compute"),
    "other nodes": "communication",
    "write": "writing",
}
"""What an ingest that spends its time on a part is limited by."""


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Ingest every dataset of the run; what is there and unchanged is left as it is.

    Of several machines (`Peers`) the first one finishes the datasets and the stage; the others make shards.
    """
    peers = Peers.from_environment()
    if not peers.finishes:
        _help(run, peers)
        return
    if finished(run, "ingest") and all(_is_current(run, config) for config in datasets_of(run).values()):
        logger.info("event=ingest-unchanged")
        return
    with open_stage(run, "ingest") as stage:
        outputs: dict[str, Artifact] = {}
        metrics: dict[str, float] = {}
        with accounted(stage, LIMITS):
            for role, config in datasets_of(run).items():
                outputs[role], found = _make(stage, role, config, peers)
                metrics |= found
        check_agreement(run)  # now that the datasets can be asked, and before anything trains on them
        stage.tracker.log_metrics(metrics, step=0)
        stage.finish(outputs=outputs, metrics=metrics)


def _make(stage: Stage, role: str, config: DatasetConfig, peers: Peers) -> tuple[Artifact, dict[str, float]]:
    """One dataset, with all that it is mixed of, and numbers about it."""
    metrics: dict[str, float] = {}
    for name, part in parts_of(config).items():
        if isinstance(part, IngestConfig):
            named = f"{role}/{name}" if name else role
            metrics |= _ingest(stage, named, part, dataset_url(stage.run, part), peers)
    url = dataset_url(stage.run, config)
    if isinstance(config, MixtureConfig):
        members = part_urls(stage.run, config)
        with timesheet.part("mix"):
            mix(config, members, url, twins=find_mixture_twins(members))
    info = Dataset.open(url).info
    metrics |= {f"{role}/episodes": info.num_episodes, f"{role}/frames": info.num_frames}
    return Artifact(url=url, digest=info.revision), metrics


def _help(run: RunConfig, peers: Peers) -> None:
    """Make shards until none is left to begin. What a simulator records, the first machine records and ingests."""
    with SigtermInterrupts():
        for config in datasets_of(run).values():
            for part in parts_of(config).values():
                if isinstance(part, IngestConfig) and not isinstance(part.source, SimulatedSource):
                    help_ingest(part, dataset_url(run, part), peers=peers)


def _is_current(run: RunConfig, config: DatasetConfig) -> bool:
    """Whether a dataset is there, and is what its source would give now. A recording changes with its settings only."""
    if isinstance(config, MixtureConfig):
        are_current = all(_is_current(run, part) for part in parts_of(config).values())
        return are_current and is_whole(run, config)
    if isinstance(config, ExistingDataset) or isinstance(config.source, SimulatedSource):
        return is_whole(run, config)
    return is_current(config, dataset_url(run, config))


def _ingest(stage: Stage, role: str, config: IngestConfig, url: str, peers: Peers) -> dict[str, float]:
    def progress(done: int, total: int, message: str) -> None:
        stage.progress(f"ingest {role}", step=done, steps=total, unit="sources", message=message)

    def found(kept: int, shards: int) -> None:
        stage.resumed(f"{kept} of {shards} shards of {role} were there")

    source = _files_of(config.source, stage)
    shared = ALONE if isinstance(config.source, SimulatedSource) else peers
    report = ingest(config.model_copy(update={"source": source}), url, progress=progress, found=found, peers=shared)
    return {f"{role}/failed_sources": report.num_failed, f"{role}/skipped_episodes": report.num_skipped}


def _files_of(source: SourceConfig, stage: Stage) -> SourceConfig:
    """The source as files that a reader reads: a simulator is recorded first, everything else is files already."""
    if not isinstance(source, SimulatedSource):
        return source
    key = files.digest(str(sorted(result_settings(source).items())))[:10]
    folder = local_folder(files.join(stage.run.work_url, "recordings", f"{source.kind}-{source.record}-{key}"))
    stage.progress(f"record {source.record}", unit="episodes", steps=source.episodes)
    embodiment, licence = _record(folder, source)
    match source.record:
        case "videos":
            return VideoFolderSource(
                url=str(folder), instructions=SidecarInstructions(), embodiment=embodiment, licence=licence
            )
        case "demonstrations":
            return LeRobotSource(url=str(folder), embodiment=embodiment, licence=licence)
        case _:
            assert_never(source.record)


def _record(folder: Path, source: SimulatedSource) -> tuple[str, str]:
    """Play and film the source's episodes; their robot, and the licence of what the pictures show."""
    match source:
        case TabletopSource():
            record_tabletop(folder, source)
            return embodiment_of(source.scene.world).robot.name, "CC0-1.0"
        case MetaWorldSource():
            record_metaworld(folder, source)
            return source.kind, "MIT"
        case _:
            assert_never(source)
