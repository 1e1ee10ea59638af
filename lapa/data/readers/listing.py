"""Files below a URL, one after the other in the order of their names: of millions, a few pages are in memory.

fsspec lists a bucket whole, some kilobytes of memory for each object, and keeps that; so pages of S3 are asked for
here, through the client that s3fs has anyway. Folders are listed ahead by threads, in parallel.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from lapa import files
from lapa.data.readers.base import SourceFile

PARALLEL = 16
"""Folders that are listed at a time."""
_PAGES_AHEAD = 4
"""Of each such folder, that wait to be used."""

Page = list["_Entry"]


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
    pages = _pages_of(fs)
    found = False
    for entry in _walk(pages, f"{base}/"):
        found = True
        yield _source_file(entry, entry.path[len(base) + 1 :])
    if not found and fs.isfile(root):
        yield _source_file(_entry(root, fs.info(root)), files.name_of(root))


def first_names(url: str) -> list[str]:
    """Names of the first thousand or so files and folders directly inside a folder."""
    fs, root = url_to_fs(url)
    page = next(_pages_of(fs)(f"{root.rstrip('/')}/"), [])
    return [files.name_of(entry.path) for entry in page]


def _source_file(entry: _Entry, name: str) -> SourceFile:
    return SourceFile(path=entry.path, name=name, size=entry.size, version=entry.version)


def _walk(pages: Callable[[str], Iterator[Page]], folder: str) -> Iterator[_Entry]:
    """Depth first. Of the entries ahead, folders are being listed by threads already."""
    waiting: deque[tuple[_Entry, _Ahead | None]] = deque()
    entries = (entry for page in pages(folder) for entry in page if not _is_hidden(entry.path))
    is_all = False
    try:
        while True:
            while not is_all and sum(ahead is not None for _, ahead in waiting) < PARALLEL and len(waiting) < 10_000:
                entry = next(entries, None)
                if entry is None:
                    is_all = True
                    break
                waiting.append((entry, _Ahead(pages, entry.path) if entry.path.endswith("/") else None))
            if not waiting:
                return
            entry, ahead = waiting.popleft()
            if ahead is None:
                yield entry
            else:
                yield from _walk(ahead.pages, entry.path)
    finally:
        for _, ahead in waiting:
            if ahead is not None:
                ahead.stop()


class _Ahead:
    """Pages of one folder, fetched by a thread before they are asked for; pages of others as they come."""

    def __init__(self, pages: Callable[[str], Iterator[Page]], folder: str) -> None:
        self._pages, self._folder = pages, folder
        self._fetched: queue.Queue[Page | BaseException | None] = queue.Queue(_PAGES_AHEAD)
        self._stopping = threading.Event()
        threading.Thread(target=self._fetch, daemon=True).start()

    def pages(self, folder: str) -> Iterator[Page]:
        if folder != self._folder:
            yield from self._pages(folder)
            return
        while (page := self._fetched.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            yield page

    def stop(self) -> None:
        self._stopping.set()

    def _fetch(self) -> None:
        try:
            for page in self._pages(self._folder):
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


def _pages_of(fs: AbstractFileSystem) -> Callable[[str], Iterator[Page]]:
    if hasattr(fs, "call_s3"):
        return lambda folder: _s3_pages(fs, folder)
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        return _local_pages
    return lambda folder: iter([_listed(fs, folder)])


def _s3_pages(fs: Any, folder: str) -> Iterator[Page]:
    """A page is one request of up to 1,000 names, in the order of their bytes, folders among them."""
    bucket, _, prefix = folder.partition("/")
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
    while True:
        answer = fs.call_s3("list_objects_v2", **asked)
        page = [
            _Entry(f"{bucket}/{item['Key']}", int(item["Size"]), str(item["ETag"]))
            for item in answer.get("Contents", [])
            if item["Key"] != prefix  # a marker that some programs leave for a folder
        ]
        page += [_Entry(f"{bucket}/{item['Prefix']}", 0, "") for item in answer.get("CommonPrefixes", [])]
        yield sorted(page)
        if not answer.get("IsTruncated"):
            return
        asked["ContinuationToken"] = answer["NextContinuationToken"]


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
    return files.name_of(path).startswith(".")
