"""Byte ranges of a dataset's files: read where they lie on local disks, in cached blocks from object stores.

A block is one request, large enough for a store's full speed, and is asked for with the entity tag of the object as
it was first seen: bytes of two versions never meet in one block, and a version that a job does not know is read anew.
"""

import logging
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.spec import AbstractBufferedFile

from lapa import files
from lapa.config.reads import CacheConfig, ReadConfig
from lapa.data.cache import BlockCache
from lapa.data.retry import retried
from lapa.errors import DataError

logger = logging.getLogger(__name__)

BLOCK_BYTES = 16 * 2**20
CACHE_FOLDER_VARIABLE = "LAPA_CACHE_DIR"
CACHE_BYTES_VARIABLE = "LAPA_CACHE_BYTES"
"""What a machine's owner sets, such as a cluster for its pods, where a run says nothing."""

_DEFAULT_CACHE_BYTES = 64 * 2**30
_OPEN_OBJECTS = 256
_REMEDY = "Run the ingest stage again: it makes what is not there."

_Result = TypeVar("_Result")


class ObjectReader:
    """Byte ranges of files by URL. ``revision`` names the content that is expected: another one is looked up anew."""

    def __init__(self, config: ReadConfig) -> None:
        self._config = config
        self._block_bytes = BLOCK_BYTES
        self._cache = None if config.cache is None else _cache_of(config.cache)
        self._opened: OrderedDict[tuple[str, str], _OpenObject] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._downloads = ThreadPoolExecutor(config.threads, thread_name_prefix="read-ahead")
        self._pending: dict[tuple[str, str, int], Future[None]] = {}

    def read(self, url: str, begin: int, end: int, *, revision: str) -> bytes:
        """Bytes ``begin`` … ``end - 1``. Raises DataError naming the URL where it is missing, short, or unreadable."""
        if self._cache is None or not _is_remote(url):
            data = self._retried(url, partial(_direct, url, begin, end))
        else:
            parts = [self._part(url, revision, index, begin, end) for index in self._indices(begin, end)]
            data = b"".join(parts)
        if len(data) < end - begin:
            raise DataError(
                f"{url} ends before byte {end}, where the index still expects data. Delete it and run the ingest "
                "stage again: it makes what is not there."
            )
        return data

    def read_ahead(self, url: str, begin: int, end: int, *, revision: str) -> None:
        """Begin to bring a range into the cache; nothing happens where there is none."""
        if self._cache is None or not _is_remote(url):
            return
        for index in self._indices(begin, end):
            key = (url, revision, index)
            if key not in self._pending:
                future = self._pending[key] = self._downloads.submit(self._bring, *key)
                future.add_done_callback(partial(self._no_longer_pending, key))

    def forget(self, url: str, begin: int, end: int, *, revision: str) -> bool:
        """Remove a range from the cache; whether it was there."""
        if self._cache is None or not _is_remote(url):
            return False
        opened = self._open(url, revision)
        dropped = [self._cache.drop(opened.block_name(index)) for index in self._indices(begin, end)]
        return any(dropped)

    def _indices(self, begin: int, end: int) -> range:
        return range(begin // self._block_bytes, -(-end // self._block_bytes))

    def _part(self, url: str, revision: str, index: int, begin: int, end: int) -> bytes:
        """What block ``index`` has of the range."""
        pending = self._pending.pop((url, revision, index), None)
        if pending is not None and not pending.cancel():
            pending.result()
        first = index * self._block_bytes
        return self._block(url, revision, index, max(begin - first, 0), min(end - first, self._block_bytes))

    def _no_longer_pending(self, key: tuple[str, str, int], future: Future[None]) -> None:
        """What went wrong goes wrong once more, and is told, where the bytes are needed."""
        self._pending.pop(key, None)

    def _bring(self, url: str, revision: str, index: int) -> None:
        self._block(url, revision, index, 0, 0)

    def _block(self, url: str, revision: str, index: int, begin: int, end: int) -> bytes:
        def read() -> bytes:
            assert self._cache is not None
            opened = self._open(url, revision)
            length = opened.length_of(index)
            if length <= begin:
                return b""
            try:
                name, fetch = opened.block_name(index), partial(opened.fetch, index)
                return self._cache.read(name, begin, min(end, length), fetch)
            except Exception:
                # It may have been replaced, or seen wrongly: whoever asks next looks at it again.
                with self._lock:
                    self._opened.pop((url, revision), None)
                raise

        return self._retried(url, read)

    def _open(self, url: str, revision: str) -> "_OpenObject":
        with self._lock:
            opening = self._opening[url]
        with opening:  # one thread looks at the object, the others wait for what it finds
            with self._lock:
                opened = self._opened.get((url, revision))
            if opened is None:
                opened = self._retried(url, partial(_OpenObject, url, self._block_bytes))
            with self._lock:
                self._opened[url, revision] = opened
                self._opened.move_to_end((url, revision))
                if len(self._opened) > _OPEN_OBJECTS:
                    self._opened.popitem(last=False)
        return opened

    def _retried(self, url: str, action: Callable[[], _Result]) -> _Result:
        config = self._config
        return retried(
            action, url=url, attempts=config.attempts, backoff_seconds=config.backoff_seconds, missing=_REMEDY
        )


class _OpenObject:
    """One version of one remote file. Raises what the store's client raises."""

    def __init__(self, url: str, block_bytes: int) -> None:
        self._fs, self._path = url_to_fs(url)
        # A listing that somebody made earlier may be of another version.
        self._fs.invalidate_cache(self._fs._parent(self._path))
        self._file: Any = self._fs.open(self._path, "rb", cache_type="none")
        details = getattr(self._file, "details", None) or self._fs.info(self._path)
        self._url = url
        self._block_bytes = block_bytes
        self._size = int(details["size"])
        # Equal content has an equal tag on S3; elsewhere whatever the store tells of a file has to do.
        self._version = str(details.get("ETag") or self._fs.ukey(self._path))

    def block_name(self, index: int) -> str:
        return files.digest(self._url, self._version, str(self._size), str(self._block_bytes), str(index))[:40]

    def length_of(self, index: int) -> int:
        return min(self._block_bytes, max(self._size - index * self._block_bytes, 0))

    def fetch(self, index: int) -> bytes:
        begin, length = index * self._block_bytes, self.length_of(index)
        if isinstance(self._file, AbstractBufferedFile):
            # The hook that every store implements, beneath a file's position and buffers: threads may share it, it is
            # one request, and s3fs sends `If-Match` with it.
            data = bytes(self._file._fetch_range(begin, begin + length))
        else:
            data = bytes(self._fs.cat_file(self._path, start=begin, end=begin + length))
        if len(data) != length:
            raise OSError(f"a request for {length} bytes brought {len(data)}")
        return data


@lru_cache(maxsize=8)
def object_reader(config: ReadConfig) -> ObjectReader:
    """The one reader of these settings in this process: it knows what it has opened, and keeps its threads."""
    return ObjectReader(config)


def _direct(url: str, begin: int, end: int) -> bytes:
    fs, path = url_to_fs(url)
    return bytes(fs.cat_file(path, start=begin, end=end))


def _is_remote(url: str) -> bool:
    """Whether bytes come over a network; fsspec's `memory` is this process's own."""
    protocol = url_to_fs(url)[0].protocol
    return {"file", "memory"}.isdisjoint(protocol if isinstance(protocol, tuple) else (protocol,))


def _cache_of(config: CacheConfig) -> BlockCache:
    folder = config.dir or os.environ.get(CACHE_FOLDER_VARIABLE)
    if folder is None:
        folder = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapa" / "blocks")
    told = os.environ.get(CACHE_BYTES_VARIABLE)
    return BlockCache(Path(folder), config.max_bytes or (int(told) if told else _DEFAULT_CACHE_BYTES))
