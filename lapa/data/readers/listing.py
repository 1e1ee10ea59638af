"""Files below a URL, one after the other in the order of their names: of millions, a few pages are in memory.

fsspec lists a bucket whole, some kilobytes of memory for each object, and keeps that; so pages of S3 are asked for
here, through the client that s3fs has anyway. Folders are listed ahead by threads, in parallel; of S3, many small ones
with one request (`_s3_together`).
"""

import itertools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from lapa import files
from lapa.data.readers.base import SourceFile

PARALLEL = 16
"""Folders, or groups of them, that are listed at a time."""
_PAGES_AHEAD = 4
"""Of each such folder, that wait to be used."""
_WAITING = 10_000
"""Files and folders that are looked at ahead, for folders to list."""
_TOGETHER = 256
"""Folders in a group, where a store lists several with one request."""
_WORTH = 4
"""Whole folders that such a request must bring; larger ones are listed one by one."""

Page = list["_Entry"]
Folders = tuple[str, ...]
Lister = Callable[[Folders], Iterator[Page]]
"""Pages of one folder: its files, and its folders. Of several that follow each other: their files at any depth, and
folders that are still to be listed, in the order of their names."""


class _Entry(NamedTuple):
    """A file, or a folder, whose path then ends with a slash."""

    path: str
    size: int
    version: str


def walk_files(url: str) -> Iterator[SourceFile]:
    """Every file below a folder, or the one file that `url` is, by name in ascending order; hidden ones left out."""
    fs, root = url_to_fs(url)
    fs.invalidate_cache()
    base = root.rstrip("/")
    lister, together = _lister_of(fs)
    found = False
    for entry in _walk(lister, lister((f"{base}/",)), together, together):
        found = True
        yield _source_file(entry, entry.path[len(base) + 1 :])
    if not found and fs.isfile(root):
        yield _source_file(_entry(root, fs.info(root)), files.name_of(root))


def first_names(url: str) -> list[str]:
    """Names of the first thousand or so files and folders directly inside a folder."""
    fs, root = url_to_fs(url)
    lister, _ = _lister_of(fs)
    page = next(lister((f"{root.rstrip('/')}/",)), [])
    return [files.name_of(entry.path) for entry in page]


def _source_file(entry: _Entry, name: str) -> SourceFile:
    return SourceFile(path=entry.path, name=name, size=entry.size, version=entry.version)


def _walk(lister: Lister, pages: Iterator[Page], together: int, below: int) -> Iterator[_Entry]:
    """Depth first. Of the entries ahead, folders are being listed by threads already.

    `together`: how many folders of these pages are listed as a group, `below`: of the pages of a single folder.
    """
    waiting: deque[_Entry | _Ahead] = deque()
    entries = (entry for page in pages for entry in page if not _is_hidden(entry.path))
    units = _units(entries, together)
    is_all, listing = False, 0  # how many of those that wait are folders
    try:
        while True:
            while not is_all and listing < PARALLEL and len(waiting) < _WAITING:
                unit = next(units, None)
                if unit is None:
                    is_all = True
                    break
                waiting.append(unit if isinstance(unit, _Entry) else _Ahead(lister, unit))
                listing += isinstance(waiting[-1], _Ahead)
            if not waiting:
                return
            first = waiting.popleft()
            if isinstance(first, _Entry):
                yield first
            else:  # what a group leaves to be listed is listed one by one
                listing -= 1
                yield from _walk(lister, first.pages(), below if first.is_single else 1, below)
    finally:
        for ahead in waiting:
            if isinstance(ahead, _Ahead):
                ahead.stop()


def _units(entries: Iterable[_Entry], together: int) -> "Iterator[_Entry | Folders]":
    """Files, and folders: those that follow each other in groups."""
    group: list[str] = []
    for entry in entries:
        is_folder = entry.path.endswith("/")
        if group and (not is_folder or len(group) == together):
            yield tuple(group)
            group = []
        if is_folder:
            group.append(entry.path)
        else:
            yield entry
    if group:
        yield tuple(group)


class _Ahead:
    """Pages of folders, fetched by a thread before they are asked for."""

    def __init__(self, lister: Lister, folders: Folders) -> None:
        self._lister, self._folders = lister, folders
        self._fetched: queue.Queue[Page | BaseException | None] = queue.Queue(_PAGES_AHEAD)
        self._stopping = threading.Event()
        threading.Thread(target=self._fetch, daemon=True).start()

    @property
    def is_single(self) -> bool:
        return len(self._folders) == 1

    def pages(self) -> Iterator[Page]:
        try:
            while (page := self._fetched.get()) is not None:
                if isinstance(page, BaseException):
                    raise page
                yield page
        finally:
            self.stop()

    def stop(self) -> None:
        self._stopping.set()

    def _fetch(self) -> None:
        try:
            for page in self._lister(self._folders):
                if not self._put(page):
                    return
            self._put(None)
        except Exception as error:
            self._put(error)

    def _put(self, page: Page | BaseException | None) -> bool:
        while not self._stopping.is_set():
            try:
                self._fetched.put(page, timeout=1)
            except queue.Full:
                continue
            return True
        return False


def _lister_of(fs: AbstractFileSystem) -> tuple[Lister, int]:
    """With how many folders it takes at a time."""
    if hasattr(fs, "call_s3"):
        return lambda folders: _s3_pages(fs, folders[0]) if len(folders) == 1 else _s3_together(fs, folders), _TOGETHER
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        return lambda folders: _local_pages(folders[0]), 1
    return lambda folders: iter([_listed(fs, folders[0])]), 1


def _s3_pages(fs: Any, folder: str) -> Iterator[Page]:
    """A page is one request of up to 1,000 names, in the order of their bytes, folders among them."""
    bucket, _, prefix = folder.partition("/")
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
    while True:
        answer = fs.call_s3("list_objects_v2", **asked)
        page = [*_s3_files(answer, bucket)]
        page += [_Entry(f"{bucket}/{item['Prefix']}", 0, "") for item in answer.get("CommonPrefixes", [])]
        yield sorted(page)
        if not answer.get("IsTruncated"):
            return
        asked["ContinuationToken"] = answer["NextContinuationToken"]


def _s3_together(fs: Any, folders: Folders) -> Iterator[Page]:
    """Small folders that follow each other: a request brings up to 1,000 files, of as many folders as they fill.

    What is not whole is left to be listed by itself: one folder that is large, or all that is left after two in a row;
    so is everything where a store answers in an order of its own, as those do that keep folders in folders, or refuses
    to begin after a name.
    """
    bucket, _, prefix = folders[0].rstrip("/").rpartition("/")[0].partition("/")
    prefix = f"{prefix}/" if prefix else ""
    left, was_poor = folders, False
    while left:
        after = left[0].partition("/")[2]
        try:
            answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=after)
        except OSError:  # where nothing can be listed, a listing of one folder says why
            yield [_Entry(folder, 0, "") for folder in left]
            return
        whole, found = _whole_folders([*_s3_files(answer, bucket)], left, is_end=not answer.get("IsTruncated"))
        left, is_poor = left[whole:], whole < _WORTH
        alone = (len(left) if was_poor else 1) if is_poor else 0
        yield [*found, *(_Entry(folder, 0, "") for folder in left[:alone])]
        left, was_poor = left[alone:], is_poor


def _whole_folders(entries: Sequence[_Entry], folders: Folders, *, is_end: bool) -> tuple[int, Page]:
    """How many of the folders, from the first on, the entries list as a whole, and their files."""
    if any(one.path >= other.path for one, other in itertools.pairwise(entries)):
        return 0, []
    found: Page = []
    place, is_begun = 0, False
    ends: list[int] = []
    """Of each whole folder, the number of files up to its end."""
    for entry in entries:
        if is_begun and not entry.path.startswith(folders[place]):
            ends.append(len(found))
            place, is_begun = place + 1, False
            if place == len(folders):
                break
        if entry.path.startswith(folders[place]):
            found.append(entry)
            is_begun = True
        elif entry.path > folders[place]:  # a folder without a file, which a listing would not have named
            break
    else:
        if is_end and is_begun:
            ends.append(len(found))
    if not ends:
        return 0, []
    start = len(folders[0].rstrip("/").rpartition("/")[0])
    return len(ends), [entry for entry in found[: ends[-1]] if "/." not in entry.path[start:]]


def _s3_files(answer: Mapping[str, Any], bucket: str) -> Iterator[_Entry]:
    for item in answer.get("Contents", []):
        if not item["Key"].endswith("/"):  # a marker that some programs leave for a folder
            yield _Entry(f"{bucket}/{item['Key']}", int(item["Size"]), str(item["ETag"]))


def _local_pages(folder: str) -> Iterator[Page]:
    """One page: a file system gives names in no order."""
    try:
        with os.scandir(folder) as found:
            page = [_local_entry(entry) for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return
    yield sorted(entry for entry in page if entry is not None)


def _local_entry(entry: os.DirEntry[str]) -> _Entry | None:
    if entry.is_dir():
        return _Entry(f"{entry.path}/", 0, "")
    try:
        status = entry.stat()
    except FileNotFoundError:  # a link to nothing
        return None
    return _Entry(entry.path, status.st_size, str(status.st_mtime))


def _listed(fs: AbstractFileSystem, folder: str) -> Page:
    try:
        found: Sequence[dict[str, Any]] = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return []
    return sorted(
        _Entry(f"{info['name'].rstrip('/')}/", 0, "") if info["type"] == "directory" else _entry(info["name"], info)
        for info in found
        if info["name"].rstrip("/") != folder.rstrip("/")
    )


def _entry(path: str, info: dict[str, Any]) -> _Entry:
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
    return _Entry(path, int(info["size"] or 0), str(version))


def _is_hidden(path: str) -> bool:
    # Not by pathlib: it interns every name it sees, and there may be millions.
    return path.rstrip("/").rpartition("/")[2].startswith(".")
