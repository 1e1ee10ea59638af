"""One unit of an ingest: a run of source items that becomes one shard, in one process.

A unit depends on nothing but its items and the settings, so any number of processes makes the same shards. It is
done when its record exists; the record is written last.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lapa import files, timesheet
from lapa.config.conventions import DimensionConvention
from lapa.config.data import IngestConfig
from lapa.data import quality, shards
from lapa.data.conventions import found_conventions
from lapa.data.dataset import shard_name
from lapa.data.ingest_clips import EncodedClip, encode_clips
from lapa.data.ingest_plan import Unit
from lapa.data.ingest_records import QUALITY_FOLDER, UnitRecord, record_url
from lapa.data.ingest_report import QualityNote, SourceProblem
from lapa.data.readers.base import SourceItem, SourceReader
from lapa.data.resample import check_thinning, stride_of, thinned_actions
from lapa.errors import SourceError
from lapa.types.episodes import Episode

PICTURES = 8
"""Of one kind, that a unit keeps of what it found wrong."""


def run_unit(reader: SourceReader, unit: Unit, config: IngestConfig, output_url: str) -> UnitRecord:
    """Write the unit's shard, then its record."""
    with timesheet.part("shard", f"shard {unit.number}"):
        return _run_unit(reader, unit, config, output_url)


def _run_unit(reader: SourceReader, unit: Unit, config: IngestConfig, output_url: str) -> UnitRecord:
    record = UnitRecord(fingerprint=unit.fingerprint, shard_bytes=0)
    with tempfile.TemporaryDirectory(prefix="lapa-ingest-") as folder:
        shard = Path(folder) / shard_name(unit.number)
        with shards.ShardWriter(shard) as writer:
            # Asked for only where actions may have to be brought to another rate: it may read files.
            meaning = found_conventions(config, reader).actions if config.fps is not None else ()
            store = _UnitStore(unit.number, config, output_url, writer, record, meaning)
            for source, episode in _episodes(reader, unit.items):
                try:
                    if isinstance(episode, SourceError):
                        raise episode
                    store.add(episode)
                except SourceError as error:
                    record.failed.append(SourceProblem(source=source, reason=str(error)))
        record.shard_bytes = shard.stat().st_size
        with timesheet.part("write"):
            files.upload(Path(folder), files.join(output_url, "shards"))
    with timesheet.part("write"):
        store.write_arrays()
        files.write_json(record_url(output_url, unit.number), record.model_dump(mode="json"))
    return record


def _episodes(reader: SourceReader, items: Sequence[SourceItem]) -> Iterator[tuple[str, Episode | SourceError]]:
    """Each episode, or what kept it from being read, with the name to report it by."""
    for item in items:
        try:
            for episode in timesheet.each("read", reader.read(item)):
                yield (item.key if isinstance(episode, SourceError) else episode.source), episode
        except SourceError as error:
            yield item.key, error


class _UnitStore:
    """What becomes of the episodes of one unit."""

    def __init__(
        self,
        number: int,
        config: IngestConfig,
        output_url: str,
        writer: shards.ShardWriter,
        record: UnitRecord,
        meaning: Sequence[DimensionConvention],
    ) -> None:
        self._meaning = meaning
        self._number, self._config, self._output_url = number, config, output_url
        self._writer, self._record = writer, record
        self._arrays: list[dict[str, np.ndarray]] = []
        self._thumbs: list[np.ndarray] = []

    def add(self, episode: Episode) -> None:
        """Store the clips of an episode that are of use. Raises SourceError before any is stored."""
        arrays = _arrays(episode)
        _check_dimensions(episode, arrays, self._record)
        fps, arrays = _at_stored_rate(episode, arrays, self._config, self._meaning)
        clips = list(encode_clips(episode, fps, self._config))
        _check_lengths(episode, arrays, sum(clip.num_frames for clip in clips))
        if len(clips) > 1:
            self._note(episode, episode.id, "cuts", "split", f"split into {len(clips)} scenes")
        for number, clip in enumerate(clips):
            part = _part(episode, number, clip) if len(clips) > 1 else episode
            rows = slice(clip.start, clip.start + clip.num_frames)
            self._add_clip(part, clip, fps, {name: values[rows] for name, values in arrays.items()})

    def write_arrays(self) -> None:
        """What is needed of all episodes together, beside the record."""
        parts = {
            "npz": _concatenated(self._arrays),
            "twins.npz": {"thumbs": np.stack(self._thumbs)} if self._thumbs else {},
        }
        for ending, arrays in parts.items():
            url = record_url(self._output_url, self._number, ending)
            if arrays:
                files.write_bytes(url, shards.pack_arrays(arrays))
            else:
                files.remove(url)

    def _add_clip(self, episode: Episode, clip: EncodedClip, fps: float, arrays: dict[str, np.ndarray]) -> None:
        if (reason := _too_short(clip.num_frames, fps, self._config)) is not None:
            self._record.skipped.append(SourceProblem(source=episode.source, reason=reason))
            return
        findings = quality.judge(clip.seen.measures, clip.cuts, self._config.quality) if clip.seen else []
        is_dropped = any(finding.action == "drop" for finding in findings)
        for finding in findings:
            done = "dropped" if is_dropped else "tagged"
            self._note(episode, episode.id, finding.kind, done, finding.reason, clip)
        if not is_dropped:
            tags = [finding.kind for finding in findings]
            self._append(episode, clip, fps, arrays, tags)

    def _append(
        self, episode: Episode, clip: EncodedClip, fps: float, arrays: dict[str, np.ndarray], tags: Sequence[str]
    ) -> None:
        """To the shard and to the record."""
        described = {
            "instruction": episode.instruction,
            "fps": fps,
            "num_frames": clip.num_frames,
            "embodiment": episode.embodiment,
            "licence": episode.licence,
            "source": episode.source,
        }
        packed = shards.pack_arrays(arrays)
        members = self._writer.add(episode.id, video=clip.video, metadata=described, arrays=packed)
        record = self._record
        record.rows.append(
            described
            | {
                "episode": episode.id,
                "shard": self._number,
                "has_actions": "actions" in arrays,
                "video_offset": members.video.offset,
                "video_bytes": members.video.size,
                "arrays_offset": members.arrays.offset,
                "arrays_bytes": members.arrays.size,
                "motion": clip.seen.measures.motion if clip.seen else None,
                "tags": list(tags) if clip.seen else None,
            }
        )
        record.content.append(files.digest(episode.id, clip.video, packed, repr(sorted(described.items()))))
        record.dimensions |= {name: values.shape[1] for name, values in arrays.items()}
        record.action_names = record.action_names or episode.action_names
        record.frame_sums += clip.sums
        self._arrays.append(arrays)
        if clip.seen is not None and self._config.quality.duplicates != "off":
            record.hashes.append(clip.seen.hash.hex())
            self._thumbs.append(clip.seen.twin_thumbs)

    def _note(
        self, episode: Episode, name: str, kind: str, done: str, reason: str, clip: EncodedClip | None = None
    ) -> None:
        notes = self._record.quality
        picture = ""
        if clip is not None and clip.seen is not None and sum(note.kind == kind for note in notes) < PICTURES:
            picture = f"{QUALITY_FOLDER}/{kind}-{name}.jpg"
            files.write_bytes(files.join(self._output_url, picture), quality.strip(clip.seen.thumbs))
        notes.append(
            QualityNote(source=episode.source, episode=name, kind=kind, done=done, reason=reason, picture=picture)
        )


def _part(episode: Episode, number: int, clip: EncodedClip) -> Episode:
    """One scene of an episode; what is before the @ still names the recording."""
    joint = "-" if "@" in episode.id else "@"
    last = clip.start + clip.num_frames - 1
    return replace(
        episode, id=f"{episode.id}{joint}scene{number:03d}", source=f"{episode.source} frames {clip.start}-{last}"
    )


def _too_short(num_frames: int, fps: float, config: IngestConfig) -> str | None:
    if num_frames < config.min_frames:
        return f"{num_frames} frames, fewer than min_frames={config.min_frames}"
    if num_frames < config.quality.min_seconds * fps:
        return f"{num_frames / fps:.2f} seconds, fewer than quality.min_seconds={config.quality.min_seconds:g}"
    return None


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


def _at_stored_rate(
    episode: Episode, arrays: dict[str, np.ndarray], config: IngestConfig, meaning: Sequence[DimensionConvention]
) -> tuple[float, dict[str, np.ndarray]]:
    """Frames per second that are stored, and a row of every array for each of them."""
    if config.fps is None or config.fps >= episode.fps:
        return episode.fps, arrays
    if not arrays:
        return config.fps, arrays
    stride = stride_of(episode.fps, config.fps, source=episode.source)
    thinned = {name: values[::stride] for name, values in arrays.items()}
    if "actions" in arrays:
        check_thinning(meaning, arrays["actions"].shape[1], source=episode.source)
        thinned["actions"] = thinned_actions(arrays["actions"], stride, meaning)
    return episode.fps / stride, thinned


def _concatenated(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = {name for episode in arrays for name in episode}
    together = {}
    for name in sorted(names):
        parts = [episode[name] for episode in arrays if name in episode]
        together[name] = np.concatenate(parts)
    return together
