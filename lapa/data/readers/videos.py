"""A folder, a bucket or one file of raw videos, with instructions from a sidecar, from file names, or one for all."""

import csv
import io
import json
import logging
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, assert_never

from fsspec.core import url_to_fs

from lapa import files
from lapa.config.data import (
    ConstantInstruction,
    FileNameInstructions,
    InstructionRule,
    SidecarInstructions,
    VideoFolderSource,
)
from lapa.config.sources import SomethingSomethingSource
from lapa.data import video
from lapa.data.readers.base import SourceFile, SourceItem, episode_id, fingerprint, load_video
from lapa.data.readers.listing import walk_files
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode, Frame

logger = logging.getLogger(__name__)

EXTENSIONS = frozenset({".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v"})


class VideoFolderReader:
    """One episode per video file; no actions. Holds no list of files: there may be millions."""

    def __init__(self, config: VideoFolderSource) -> None:
        """Raises SourceError where there is no video, and for a sidecar that cannot be read."""
        self.config = config
        fs, root = url_to_fs(config.url)
        self.is_one_file = _is_video(config.url) and bool(fs.isfile(root))
        folder = config.url.rsplit("/", 1)[0] if self.is_one_file else config.url
        self.instruction_of = _instruction_rule(config.instructions, folder)
        if next(self._videos(), None) is None:
            raise SourceError(f"{config.url} holds no video ({', '.join(sorted(EXTENSIONS))}). Check the source's url.")

    def items(self) -> Iterator[SourceItem]:
        videos = named = 0
        for file in self._videos():
            instruction = self.instruction_of(file.name)
            videos, named = videos + 1, named + (instruction is not None)
            yield SourceItem(key=file.name, fingerprint=fingerprint(file, instruction or ""), size=file.size)
        if isinstance(self.instruction_of, _Sidecar):
            self.instruction_of.compare(videos=videos, named=named)

    def read(self, item: SourceItem) -> Iterator[Episode]:
        _, root = url_to_fs(self.config.url)
        path = root if self.is_one_file else files.join(root, item.key)
        file = SourceFile(path=path, name=item.key, size=item.size, version="")
        yield whole_video(self.config, file, self.instruction_of(item.key) or "")

    def _videos(self) -> Iterator[SourceFile]:
        return (file for file in walk_files(self.config.url) if _is_video(file.name))


def _is_video(name: str) -> bool:
    # Not by pathlib, which interns every name: of millions, that costs time and grows a table of the interpreter.
    return posixpath.splitext(name)[1].lower() in EXTENSIONS


def whole_video(config: VideoFolderSource | SomethingSomethingSource, file: SourceFile, instruction: str) -> Episode:
    """One video file as an episode without actions."""
    info = video.probe(load_video(config.url, file), name=file.name)
    return Episode(
        id=episode_id(file.name),
        frames=partial(_frames, config.url, file, info.fps),
        fps=info.fps,
        instruction=instruction,
        embodiment=config.embodiment,
        licence=config.licence,
        source=file.name,
    )


def _frames(url: str, file: SourceFile, fps: float) -> Iterator[Frame]:
    return video.decode(load_video(url, file), name=file.name, steady_fps=fps)


def _instruction_rule(rule: InstructionRule, folder: str) -> Callable[[str], str | None]:
    """From a file's name to its instruction; None where a sidecar has none. Picklable."""
    match rule:
        case ConstantInstruction():
            return _Constant(rule.text)
        case FileNameInstructions():
            _check_pattern(rule.pattern)
            return partial(_instruction_in_name, rule.pattern)
        case SidecarInstructions():
            return _Sidecar(_read_sidecar(files.join(folder, rule.file)), rule.file)
        case _:
            assert_never(rule)


@dataclass(frozen=True)
class _Constant:
    text: str

    def __call__(self, name: str) -> str:
        return self.text


@dataclass(frozen=True)
class _Sidecar:
    instructions: Mapping[str, str]
    file: str

    def __call__(self, name: str) -> str | None:
        return self.instructions.get(name)

    def compare(self, *, videos: int, named: int) -> None:
        """Say where videos and entries do not match."""
        unnamed, unknown = videos - named, len(self.instructions) - named
        if unnamed or unknown:
            logger.warning(
                "event=sidecar-differs file=%s videos_without_instruction=%d entries_without_video=%d",
                self.file, unnamed, unknown,
            )  # fmt: skip


def _check_pattern(pattern: str) -> None:
    try:
        has_group, why = "instruction" in re.compile(pattern).groupindex, "it has no such group"
    except re.error as error:
        has_group, why = False, str(error)
    if not has_group:
        raise ConfigError(
            f"instructions.pattern={pattern!r} is not a regular expression with a group named `instruction`: {why}."
        )


def _instruction_in_name(pattern: str, name: str) -> str:
    found = re.match(pattern, PurePosixPath(name).stem)
    return re.sub(r"[\s_-]+", " ", (found.group("instruction") or "") if found else "").strip()


def _read_sidecar(url: str) -> Mapping[str, str]:
    try:
        text = files.read_bytes(url).decode("utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise SourceError(
            f"the sidecar {url} cannot be read: {error}. Write it, or set source.instructions.kind=constant."
        ) from error
    try:
        if url.lower().endswith(".csv"):
            return _from_records(list(csv.DictReader(io.StringIO(text))))
        value = json.loads(text)
        if isinstance(value, dict):
            return {str(name): str(instruction) for name, instruction in value.items()}
        return _from_records(value)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"the sidecar {url} is neither an object of file: instruction nor a list (or CSV) with `file` and "
            f"`instruction`: {error!r}."
        ) from error


def _from_records(records: list[dict[str, Any]]) -> Mapping[str, str]:
    return {record["file"]: str(record["instruction"]) for record in records}
