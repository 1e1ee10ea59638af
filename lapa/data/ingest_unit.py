"""One unit of an ingest: a run of source items that becomes one shard, in one process.

A unit depends on nothing but its items and the settings, so any number of processes makes the same shards. It is
done when its record exists; the record is written last.
"""

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from lapa import files
from lapa.config.base import result_settings
from lapa.config.data import IngestConfig
from lapa.data import shards, video
from lapa.data.dataset import shard_name
from lapa.data.ingest_report import SourceProblem
from lapa.data.readers.base import SourceItem, SourceReader
from lapa.data.resize import drop_to_rate, resize
from lapa.data.statistics import FrameMeter, FrameSums
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode, Frame

UNITS_FOLDER = "_units"
FORMAT_VERSION = 1
"""Raise it when the same source and settings would give other shards: everything is then ingested anew."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    number: int
    """Also the number of its shard."""
    items: tuple[SourceItem, ...]
    fingerprint: str


class UnitRecord(BaseModel):
    """`_units/00000.json`: what the dataset's index and statistics need to know of one shard."""

    fingerprint: str
    shard_bytes: int
    """Size of the shard: one that is gone, or was cut short, is made again."""
    rows: list[dict[str, Any]] = []
    """Columns of the index."""
    content: list[str] = []
    """Hash over everything stored for each episode."""
    dimensions: dict[str, int] = {}
    """Of the actions and the proprioception."""
    action_names: tuple[str, ...] = ()
    frame_sums: FrameSums = FrameSums()
    failed: list[SourceProblem] = []
    skipped: list[SourceProblem] = []


class _TooShort(Exception):
    """An episode that is fine but for its length."""


def plan_units(items: Sequence[SourceItem], config: IngestConfig) -> list[Unit]:
    """Cut the ordered items into units of about `episodes_per_shard` episodes, each of whole items."""
    common = files.digest(str(FORMAT_VERSION), repr(result_settings(config)))
    groups: list[list[SourceItem]] = []
    room = 0
    for item in items:
        episodes = config.episodes_per_shard if item.episodes is None else item.episodes
        if episodes > room or not groups:
            groups.append([])
            room = config.episodes_per_shard
        groups[-1].append(item)
        room -= episodes
    return [
        Unit(
            number=number,
            items=tuple(group),
            fingerprint=files.digest(common, *(f"{item.key} {item.fingerprint}" for item in group)),
        )
        for number, group in enumerate(groups)
    ]


def read_record(output_url: str, unit: Unit, stored: Mapping[str, int]) -> UnitRecord | None:
    """The unit's record, if it was made from the same items with the same settings and its shard is there."""
    try:
        record = UnitRecord.model_validate(files.read_json(_record_url(output_url, unit.number)))
    except (FileNotFoundError, ValidationError, ValueError):
        return None
    is_whole = stored.get(shard_name(unit.number)) == record.shard_bytes
    return record if is_whole and record.fingerprint == unit.fingerprint else None


def read_actions(output_url: str, unit: Unit) -> dict[str, np.ndarray]:
    """`actions` and `proprioception` of all of the unit's episodes, concatenated: ``t d``."""
    url = _record_url(output_url, unit.number, "npz")
    return shards.unpack_arrays(files.read_bytes(url)) if files.exists(url) else {}


def remove_stale(output_url: str, units: int) -> None:
    """Remove shards and records of units that the source no longer gives."""
    kept = {shard_name(number) for number in range(units)}
    kept |= {f"{number:05d}.{ending}" for number in range(units) for ending in ("json", "npz")}
    for folder in ("shards", UNITS_FOLDER):
        for name in files.list_names(files.join(output_url, folder)):
            if name not in kept:
                files.remove(files.join(output_url, folder, name))


def run_unit(reader: SourceReader, unit: Unit, config: IngestConfig, output_url: str) -> UnitRecord:
    """Write the unit's shard, then its record."""
    record = UnitRecord(fingerprint=unit.fingerprint, shard_bytes=0)
    arrays: list[dict[str, np.ndarray]] = []
    with tempfile.TemporaryDirectory(prefix="lapa-ingest-") as folder:
        shard = Path(folder) / shard_name(unit.number)
        with shards.ShardWriter(shard) as writer:
            for source, episode in _episodes(reader, unit.items):
                try:
                    if isinstance(episode, SourceError):
                        raise episode
                    arrays.append(_store(episode, unit.number, config, writer, record))
                except SourceError as error:
                    record.failed.append(SourceProblem(source=source, reason=str(error)))
                except _TooShort as error:
                    record.skipped.append(SourceProblem(source=source, reason=str(error)))
        record.shard_bytes = shard.stat().st_size
        files.upload(Path(folder), files.join(output_url, "shards"))
    together = _concatenated(arrays)
    arrays_url = _record_url(output_url, unit.number, "npz")
    if together:
        files.write_bytes(arrays_url, shards.pack_arrays(together))
    else:
        files.remove(arrays_url)
    files.write_json(_record_url(output_url, unit.number), record.model_dump(mode="json"))
    return record


def _episodes(reader: SourceReader, items: Sequence[SourceItem]) -> Iterator[tuple[str, Episode | SourceError]]:
    """Each episode, or what kept it from being read, with the name to report it by."""
    for item in items:
        try:
            for episode in reader.read(item):
                yield (item.key if isinstance(episode, SourceError) else episode.source), episode
        except SourceError as error:
            yield item.key, error


def _store(
    episode: Episode, shard: int, config: IngestConfig, writer: shards.ShardWriter, record: UnitRecord
) -> dict[str, np.ndarray]:
    """Append one episode to the shard and to the record; returns its arrays."""
    arrays = _arrays(episode)
    _check_dimensions(episode, arrays, record)
    fps = _stored_fps(episode, config)
    meter = FrameMeter()
    encoded = _encode(episode, fps, config, meter)
    _check_lengths(episode, arrays, meter.num_frames)
    if meter.num_frames < config.min_frames:
        raise _TooShort(f"{meter.num_frames} frames, fewer than min_frames={config.min_frames}")
    described = {
        "instruction": episode.instruction,
        "fps": fps,
        "num_frames": meter.num_frames,
        "embodiment": episode.embodiment,
        "licence": episode.licence,
        "source": episode.source,
    }
    packed = shards.pack_arrays(arrays)
    members = writer.add(episode.id, video=encoded, metadata=described, arrays=packed)
    record.rows.append(
        described
        | {
            "episode": episode.id,
            "shard": shard,
            "has_actions": "actions" in arrays,
            "video_offset": members.video.offset,
            "video_bytes": members.video.size,
            "arrays_offset": members.arrays.offset,
            "arrays_bytes": members.arrays.size,
        }
    )
    record.content.append(files.digest(episode.id, encoded, packed, repr(sorted(described.items()))))
    record.dimensions |= {name: values.shape[1] for name, values in arrays.items()}
    record.action_names = record.action_names or episode.action_names
    record.frame_sums += meter.sums
    return arrays


def _arrays(episode: Episode) -> dict[str, np.ndarray]:
    given = {"actions": episode.actions, "proprioception": episode.proprioception}
    arrays = {name: values.astype(np.float32) for name, values in given.items() if values is not None}
    for name, values in arrays.items():
        damaged = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(damaged):
            raise SourceError(
                f"{episode.source}: {name} are NaN or infinite at {len(damaged)} timesteps, first at {damaged[0]}. "
                "Repair or remove this episode."
            )
    return arrays


def _check_dimensions(episode: Episode, arrays: dict[str, np.ndarray], record: UnitRecord) -> None:
    for name, values in arrays.items():
        expected = record.dimensions.get(name, values.shape[1])
        if values.shape[1] != expected:
            raise SourceError(
                f"{episode.source} has {values.shape[1]} dimensions of {name}, episodes before it {expected}. Ingest "
                "robots with different actions as separate datasets."
            )


def _check_lengths(episode: Episode, arrays: dict[str, np.ndarray], num_frames: int) -> None:
    for name, values in arrays.items():
        if len(values) != num_frames:
            raise SourceError(
                f"{episode.source} has {num_frames} frames but {len(values)} rows of {name}; they must agree. "
                "Repair or remove this episode."
            )


def _stored_fps(episode: Episode, config: IngestConfig) -> float:
    if config.fps is None or config.fps >= episode.fps:
        return episode.fps
    if episode.actions is not None:
        raise ConfigError(
            f"{episode.source} has actions at {episode.fps:g} fps, and fps={config.fps:g} would drop frames between "
            "them. Leave ingest's fps unset for sources with actions, or resample the recordings themselves."
        )
    return config.fps


def _encode(episode: Episode, fps: float, config: IngestConfig, meter: FrameMeter) -> bytes:
    """Decode, thin, resize, measure and encode frame by frame; empty where there is no frame."""
    kept = drop_to_rate(episode.frames(), source_fps=episode.fps, fps=fps)
    sized: Iterator[Frame] = (resize(frame, config.image_size, config.resize) for frame in kept)
    measured = meter.measure(sized)
    first = next(measured, None)
    if first is None:
        return b""
    return video.encode_mp4(itertools.chain([first], measured), fps, config.encoding)


def _concatenated(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = {name for episode in arrays for name in episode}
    together = {}
    for name in sorted(names):
        parts = [episode[name] for episode in arrays if name in episode]
        together[name] = np.concatenate(parts)
    return together


def _record_url(output_url: str, number: int, ending: str = "json") -> str:
    return files.join(output_url, UNITS_FOLDER, f"{number:05d}.{ending}")
