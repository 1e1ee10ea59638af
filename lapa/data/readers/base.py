"""What ingest asks of a source: a cheap, ordered listing, and the episodes of one listed item."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from lapa import files, timesheet
from lapa.config.conventions import Conventions
from lapa.data.video import VideoData
from lapa.errors import SourceError
from lapa.types.episodes import Episode

WHOLE_READ_BYTES = 64 * 2**20
"""Remote files up to this size are fetched in one request; larger ones are read through a window."""


@dataclass(frozen=True, kw_only=True)
class SourceItem:
    """The smallest piece of a source that is read on its own: a file, or a run of records in one."""

    key: str
    """Unique in its source; items are ingested in the order of their keys."""
    fingerprint: str
    """Changes when the item's content, or what the source says about it, changes."""
    episodes: int | None = 1
    """How many episodes it holds; None where only reading tells."""
    size: int = 0
    """Bytes, where the item is a file and its reader keeps no listing of them."""


class SourceReader(Protocol):
    """Knows one source format. Picklable: worker processes get a copy."""

    def items(self) -> Iterable[SourceItem]:
        """Every item, sorted by key; lists, and reads no content. Raises SourceError for an unusable source."""
        ...

    def read(self, item: SourceItem) -> Iterator[Episode | SourceError]:
        """Episodes of one item. An error is yielded for a record that is damaged where the next ones are
        not, and raised where nothing further can be read."""
        ...


@runtime_checkable
class KnowsConventions(Protocol):
    """A reader whose format, or a table of known datasets, tells what the numbers mean."""

    def conventions(self) -> Conventions:
        """What is known; called once, before anything is read."""
        ...


@dataclass(frozen=True)
class SourceFile:
    """One file as a listing describes it."""

    path: str
    """As its file system knows it."""
    name: str
    """Relative to the source's folder."""
    size: int
    version: str
    """ETag of an object, modification time of a local file."""


def list_files(url: str) -> dict[str, SourceFile]:
    """Every file below a folder (or the one file that `url` is), by relative name, sorted; hidden ones left out."""
    fs, root = url_to_fs(url)
    fs.invalidate_cache()
    try:
        found = fs.find(root, detail=True)
    except FileNotFoundError:
        found = {}
    base = root.rstrip("/")
    listing: dict[str, SourceFile] = {}
    for path, info in sorted(found.items()):
        name = path[len(base) :].lstrip("/") or files.name_of(path)
        if any(part.startswith(".") for part in name.split("/")):
            continue
        version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
        listing[name] = SourceFile(path=path, name=name, size=int(info["size"] or 0), version=str(version))
    return listing


def fingerprint(*parts: Any) -> str:
    """Short hash over files and plain values."""
    texts = [f"{part.size} {part.version}" if isinstance(part, SourceFile) else repr(part) for part in parts]
    return files.digest(*texts)[:16]


def load_video(url: str, file: SourceFile) -> VideoData:
    """The file in the form that decodes it fastest: a local path, its bytes, or an open remote file."""
    fs, _ = url_to_fs(url)
    if is_local(fs):
        return file.path
    if file.size <= WHOLE_READ_BYTES:
        with timesheet.part("read"):
            return bytes(fs.cat_file(file.path))
    return fs.open(file.path, "rb")  # type: ignore[no-any-return]


def is_local(fs: AbstractFileSystem) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def episode_id(key: str) -> str:
    """A file name for a key of any script and length. Without dots: WebDataset cuts member names at the first."""
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", key).strip("-")[-60:].strip("-")
    return "-".join(filter(None, [readable, files.digest(key)[:8]]))


PART_ID_LENGTH = 80
"""Of a view's or clip's id: with the longest ending of a member it fits a tar's plain header."""


def part_id(whole: str, part: str) -> str:
    """`whole@part`: id of one view or clip of a recording. A split keeps together what is before the @."""
    name = episode_id(part)
    return f"{whole}@{name[-(PART_ID_LENGTH - len(whole) - 1) :].lstrip('-')}"
