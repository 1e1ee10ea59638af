"""A folder, a bucket or one file of raw videos, with instructions from a sidecar, from file names, or one for all."""

import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any, assert_never

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
from lapa.data.readers.base import SourceFile, SourceItem, episode_id, fingerprint, list_files, load_video
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode, Frame

logger = logging.getLogger(__name__)

EXTENSIONS = frozenset({".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v"})


class VideoFolderReader:
    """One episode per video file; no actions."""

    def __init__(self, config: VideoFolderSource) -> None:
        self.config = config
        listing = list_files(config.url)
        self.videos = {name: file for name, file in listing.items() if PurePosixPath(name).suffix.lower() in EXTENSIONS}
        if not self.videos:
            raise SourceError(
                f"{config.url} holds no video ({', '.join(sorted(EXTENSIONS))}) among its {len(listing)} files. "
                "Check the source's url."
            )
        is_one_file = list(self.videos) == [files.name_of(config.url)] and len(listing) == 1
        folder = config.url.rsplit("/", 1)[0] if is_one_file else config.url
        self.instructions = _instructions(config.instructions, folder, list(self.videos))

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(key=name, fingerprint=fingerprint(file, self.instructions.get(name, "")))
            for name, file in sorted(self.videos.items())
        ]

    def read(self, item: SourceItem) -> Iterator[Episode]:
        instruction = self.instructions.get(item.key, "")
        yield whole_video(self.config, self.videos[item.key], instruction)


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


def _instructions(rule: InstructionRule, folder: str, names: list[str]) -> Mapping[str, str]:
    match rule:
        case ConstantInstruction():
            return dict.fromkeys(names, rule.text)
        case FileNameInstructions():
            return {name: _instruction_in_name(rule.pattern, name) for name in names}
        case SidecarInstructions():
            return _checked(_read_sidecar(files.join(folder, rule.file)), names, rule.file)
        case _:
            assert_never(rule)


def _instruction_in_name(pattern: str, name: str) -> str:
    try:
        found = re.match(pattern, PurePosixPath(name).stem)
        text = found.group("instruction") if found else ""
    except (re.error, IndexError) as error:
        raise ConfigError(
            f"instructions.pattern={pattern!r} is not a regular expression with a group named `instruction`: {error}."
        ) from error
    return re.sub(r"[\s_-]+", " ", text or "").strip()


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


def _checked(instructions: Mapping[str, str], names: list[str], sidecar: str) -> Mapping[str, str]:
    unnamed, unknown = set(names) - set(instructions), set(instructions) - set(names)
    if unnamed or unknown:
        logger.warning(
            "event=sidecar-differs file=%s videos_without_instruction=%d entries_without_video=%d",
            sidecar, len(unnamed), len(unknown),
        )  # fmt: skip
    return instructions


def _from_records(records: list[dict[str, Any]]) -> Mapping[str, str]:
    return {record["file"]: str(record["instruction"]) for record in records}
