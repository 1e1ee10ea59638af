"""Long videos cut into the clips that a table of narrations names: EPIC-KITCHENS' CSV, Ego4D exports."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from lapa import files
from lapa.config.sources import NarratedVideosSource
from lapa.data import video
from lapa.data.readers.base import SourceFile, SourceItem, episode_id, fingerprint, list_files, load_video, part_id
from lapa.data.readers.videos import EXTENSIONS
from lapa.errors import SourceError
from lapa.types.episodes import Episode, Frame

RUN_CLIPS = 32
"""Clips of one video are read in runs of this many, so that several processes can share a long one."""


@dataclass(frozen=True, order=True)
class _Clip:
    start: float
    stop: float
    text: str
    row: int
    problem: str = ""
    """Why it cannot be cut; empty where it can."""


class NarratedVideosReader:
    """One item per run of clips of one video. All clips of a video are trained on, or all are held out."""

    def __init__(self, config: NarratedVideosSource) -> None:
        self.config = config
        self.videos: dict[str, list[SourceFile]] = {}
        for name, file in list_files(config.url).items():
            if PurePosixPath(name).suffix.lower() in EXTENSIONS:
                self.videos.setdefault(PurePosixPath(name).stem, []).append(file)
        self.clips = self._read_clips()

    def items(self) -> list[SourceItem]:
        items = []
        for name, clips in self.clips.items():
            found = self.videos.get(name, [])
            if len(found) != 1:  # one problem, however many clips
                items.append(SourceItem(key=name, fingerprint=fingerprint(*found)))
                continue
            for start in range(0, len(clips), RUN_CLIPS):
                run = clips[start : start + RUN_CLIPS]
                items.append(
                    SourceItem(
                        key=f"{name}#{start:06d}",
                        fingerprint=fingerprint(*found, *((clip.start, clip.stop, clip.text) for clip in run)),
                        episodes=len(run),
                    )
                )
        return sorted(items, key=lambda item: item.key)

    def read(self, item: SourceItem) -> Iterator[Episode | SourceError]:
        name, is_run, start = item.key.rpartition("#")
        if not is_run:
            found = self.videos.get(item.key, [])
            raise SourceError(
                f"{self.config.narrations} narrates {item.key}, and {len(found)} videos below {self.config.url} have "
                f"this name; there must be one. {len(self.clips[item.key])} clips are left out: "
                f"{[file.name for file in found] or 'add the video, or remove its rows'}."
            )
        (file,) = self.videos[name]
        data = load_video(self.config.url, file)  # once for the whole run
        fps = video.probe(data, name=file.name).fps
        for clip in self.clips[name][int(start) : int(start) + RUN_CLIPS]:
            if clip.problem:
                yield SourceError(f"row {clip.row} of {self.config.narrations}: {clip.problem}")
                continue
            label = f"{file.name}#{clip.start:.2f}-{clip.stop:.2f}"
            yield Episode(
                id=part_id(episode_id(file.name), f"{clip.start:.3f}-{clip.stop:.3f} {clip.text}"),
                frames=partial(_frames, data, clip, fps, label),
                fps=fps,
                instruction=clip.text,
                embodiment=self.config.embodiment,
                licence=self.config.licence,
                source=label,
            )

    def _read_clips(self) -> Mapping[str, list[_Clip]]:
        """Clips of each narrated video, by time; the same clip named twice is taken once."""
        config = self.config
        clips: dict[str, dict[tuple[float, float, str, str], _Clip]] = {}
        rows = _read_rows(config.narrations)
        needed = {config.video_column, config.start_column, config.text_column}
        needed |= {config.stop_column} if config.stop_column else set()
        if missing := needed - set(rows[0]):
            raise SourceError(
                f"{config.narrations} has no columns {sorted(missing)}; it has {sorted(rows[0])}. Set "
                "source.video_column, start_column, stop_column and text_column to its own."
            )
        for number, row in enumerate(rows):
            clip = self._clip(number, row)
            known = clips.setdefault(str(row.get(config.video_column)), {})
            known.setdefault((clip.start, clip.stop, clip.text, clip.problem), clip)
        return {name: sorted(found.values()) for name, found in clips.items()}

    def _clip(self, number: int, row: Mapping[str, Any]) -> _Clip:
        config, text = self.config, _cleaned(str(row.get(self.config.text_column) or ""))
        try:
            start = _seconds(row.get(config.start_column))
            if config.stop_column:
                stop = _seconds(row.get(config.stop_column))
            else:
                start, stop = max(0.0, start - config.clip_seconds / 2), start + config.clip_seconds / 2
        except (ValueError, TypeError) as error:
            return _Clip(math.inf, math.inf, text, number, f"its times cannot be read: {error}. Correct it.")
        problem = ""
        if not 0 < stop - start <= config.max_clip_seconds:
            problem = (
                f"the clip reaches from second {start:g} to {stop:g}; it must be longer than 0 and at most "
                f"max_clip_seconds={config.max_clip_seconds:g}."
            )
        return _Clip(start, stop, text, number, problem)


def _frames(data: video.VideoData, clip: _Clip, fps: float, name: str) -> Iterator[Frame]:
    return video.decode_between(data, start_seconds=clip.start, stop_seconds=clip.stop, steady_fps=fps, name=name)


def _read_rows(url: str) -> list[Mapping[str, Any]]:
    """Rows of a CSV, or of a JSON list of objects."""
    try:
        text = files.read_bytes(url).decode("utf-8-sig")
        rows = json.loads(text) if url.lower().endswith(".json") else list(csv.DictReader(io.StringIO(text)))
    except FileNotFoundError as error:
        raise SourceError(f"the table {url} does not exist. Set source.narrations.") from error
    except (ValueError, csv.Error) as error:
        raise SourceError(f"{url} cannot be read as CSV or JSON: {error}. Export it again.") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{url} holds no rows. Give a CSV with a header, or a JSON list of objects.")
    return rows


def _seconds(value: Any) -> float:
    """Seconds, from a number or `HH:MM:SS.ss`. Raises ValueError or TypeError."""
    parts = [float(part) for part in str(value).split(":")]
    seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    if len(parts) > 3 or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{value!r} is no time")
    return seconds


def _cleaned(text: str) -> str:
    """Without Ego4D's marks: `#C C picks up the cup #unsure` reads `picks up the cup`."""
    return re.sub(r"\s+", " ", re.sub(r"^#\w+\s+([A-Z]\s+)?|#\w+", "", text)).strip()
