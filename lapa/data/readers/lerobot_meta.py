"""What every LeRobot version has: `meta/info.json`, and the seam between the versions' layouts and the reader."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from lapa import files
from lapa.data.readers.base import SourceFile, SourceItem
from lapa.errors import SourceError

PATH_PARTS = {
    "v2": {"episode_chunk": 0, "episode_index": 0, "video_key": "camera"},
    "v3": {"chunk_index": 0, "file_index": 0, "video_key": "camera"},
}
"""Names that `data_path` and `video_path` of each major version may use."""


@dataclass(frozen=True, kw_only=True)
class VideoSpan:
    """Where one camera's frames of one episode are."""

    name: str
    """File, relative to the dataset."""
    start_seconds: float | None = None
    """Time of the first frame in a file that several episodes share; None where the file is the episode."""


@dataclass(frozen=True, kw_only=True)
class EpisodeTable:
    """The rows of one episode."""

    number: int
    table: pa.Table
    name: str
    """The file they come from."""
    tasks: tuple[str, ...]
    """Instructions that `meta/` lists for the episode."""
    spans: Mapping[str, VideoSpan]
    """By camera; of those that were asked for and are stored as video."""


class LeRobotLayout(Protocol):
    """Where one version keeps its files. Picklable."""

    files: Mapping[str, SourceFile]
    tasks: Mapping[int, str]

    def cameras(self, declared: Sequence[str]) -> list[str]:
        """Those of the declared video features that have a file for some episode."""
        ...

    def items(self, cameras: Sequence[str], fps: float) -> list[SourceItem]:
        """Items for these cameras, sorted by key; an item counts every camera's episodes."""
        ...

    def tables(self, item: SourceItem, cameras: Sequence[str]) -> Iterator[EpisodeTable | SourceError]:
        """The item's episodes. Raises SourceError where none can be read, yields it for a single one."""
        ...


def read_info(url: str) -> dict[str, Any]:
    """`meta/info.json`, checked. Raises SourceError with what to do."""
    name = f"{url}/meta/info.json"
    try:
        info: dict[str, Any] = files.read_json(files.join(url, "meta/info.json"))
    except FileNotFoundError as error:
        raise SourceError(
            f"{url} has no meta/info.json, so it is no LeRobot dataset. Check the source's url."
        ) from error
    except ValueError as error:
        raise SourceError(f"{name} is not JSON: {error}. Export or download it again.") from error
    if not isinstance(info, dict):
        raise SourceError(f"{name} holds no object. Export or download it again.")
    parts = PATH_PARTS[major_version(info, url)]
    missing = {"features", "fps", "data_path"} - {key for key, value in info.items() if value}
    if missing:
        raise SourceError(f"{name} lacks {sorted(missing)}. Export or download the dataset again.")
    _check_values(info, name, parts)
    return info


def major_version(info: Mapping[str, Any], url: str) -> str:
    """`v2` or `v3`. Raises SourceError for any other."""
    version = str(info.get("codebase_version", ""))
    major = version.split(".")[0]
    if major not in PATH_PARTS:
        raise SourceError(
            f"{url} is LeRobot {version or 'of unknown version'}; v2.0, v2.1 and v3.0 are read. Convert it with the "
            "scripts of the lerobot package first."
        )
    return major


def _check_values(info: Mapping[str, Any], name: str, parts: Mapping[str, Any]) -> None:
    """Raises SourceError, naming the key, for values that no episode could be read with."""
    features = info["features"]
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise SourceError(f"{name}: `features` must map each column to an object. Export the dataset again.")
    if not isinstance(info["fps"], int | float) or info["fps"] <= 0:
        raise SourceError(f"{name}: `fps` is {info['fps']!r}; it must be a number above 0. Correct it.")
    chunks = info.get("chunks_size") or 1
    if not isinstance(chunks, int) or chunks <= 0:
        raise SourceError(f"{name}: `chunks_size` is {chunks!r}; it must be a whole number above 0. Correct it.")
    for key in ("data_path", "video_path"):
        try:
            str(info.get(key) or "").format(**parts)
        except (KeyError, IndexError, ValueError) as error:
            raise SourceError(
                f"{name}: `{key}` is {info[key]!r}; it may only use {sorted(parts)} ({error!r}). Correct it."
            ) from error
