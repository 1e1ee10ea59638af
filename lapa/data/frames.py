"""Decoded frames and arrays of episodes, read by byte range from the shards: local, or on an object store.

t timesteps, h w pixels, a action dimensions, p proprioception dimensions.
"""

import io
import itertools
import logging
import zipfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import UInt8

from lapa.data import video_faults
from lapa.data.dataset import Dataset
from lapa.data.objects import object_reader
from lapa.data.pictures import Converter
from lapa.data.video import decode
from lapa.errors import DataError, SourceError

logger = logging.getLogger(__name__)

CACHE_BYTES = 256 * 2**20
"""Decoded frames that a reader keeps: a small dataset is decoded once per process, not once per epoch."""

_WHOLE_EPISODE_BYTES = 64 * 2**20
"""Episodes up to this decoded size are decoded whole; of longer ones, the span that is asked for."""
_GAP_BYTES = 2**20
"""Byte ranges closer than this are read in one request, the bytes between them thrown away."""
_REQUEST_BYTES = 64 * 2**20
_AHEAD_BYTES = 512 * 2**20
"""Decoded frames of episodes that are decoded ahead of a caller; one episode is, whatever its size."""


class Span(NamedTuple):
    """Timesteps ``start`` … ``stop - 1`` of one episode."""

    row: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded part of one episode, with the arrays of the whole episode."""

    start: int
    """Timestep of the first frame."""
    frames: UInt8[np.ndarray, "t h w 3"]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def covers(self, span: Span) -> bool:
        return self.start <= span.start and span.stop <= self.start + len(self.frames)


class EpisodeReader:
    """Clips of one dataset. Decoded frames are kept until ``cache_bytes`` are full, then never exchanged.

    An epoch reads everything once, so dropping the least recently used clip would always drop the one that
    is needed soonest; keeping the first ones spares their decoding in every later epoch.
    """

    def __init__(self, dataset: Dataset, *, with_arrays: bool = False, cache_bytes: int = CACHE_BYTES) -> None:
        index = dataset.index
        self.dataset = dataset
        self.num_frames = index["num_frames"].to_numpy().astype(np.int64)
        self._objects = object_reader(dataset.reads)
        self._with_arrays = with_arrays
        self._shards = index["shard"].to_numpy()
        self._video = index["video_offset"].to_numpy(), index["video_bytes"].to_numpy()
        self._arrays = index["arrays_offset"].to_numpy(), index["arrays_bytes"].to_numpy()
        self._frame_bytes = 3 * dataset.info.image_size**2
        self._cache: dict[int, Clip] = {}
        self._free_bytes = cache_bytes

    def clips(self, spans: Iterable[Span], held: dict[int, Clip] | None = None) -> dict[int, Clip]:
        """A clip per row that covers its span; one span per row.

        Clips in ``held`` are used again. Raises DataError naming the episode and its shard where a video or
        its arrays are damaged.
        """
        found, missing = self._sorted_out(spans, held or {})
        for span, video, arrays in self._read(missing):
            found[span.row] = self._kept(span.row, self._clip(span, video, arrays))
        return found

    def read_ahead(self, spans: Iterable[Span], held: dict[int, Clip] | None = None) -> None:
        """Begin to bring the bytes near that ``clips`` will need, where the dataset lies on an object store."""
        _, missing = self._sorted_out(spans, held or {})
        for url, first, last, _ in self._ranges(missing):
            self._objects.read_ahead(url, first, last, revision=self.dataset.revision)

    def episodes(self, shard: int, *, threads: int = 0) -> Generator[tuple[int, Clip], None, None]:
        """Row and whole clip of every episode of one shard, in order; nothing is kept.

        `threads` decode the episodes that come next while the caller works on one, each one of them; fewer where their
        frames are more than ``_AHEAD_BYTES``.
        """
        rows = np.flatnonzero(self._shards == shard)
        spans = [Span(int(row), 0, int(self.num_frames[row])) for row in rows]
        self.read_ahead(spans)
        if not threads:
            for span, video, arrays in self._read(spans):
                yield span.row, self._clip(span, video, arrays)
            return
        coming: deque[tuple[int, Future[Clip]]] = deque()
        sizes = [int(self.num_frames[row]) * self._frame_bytes for row in rows]
        decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            for number, (span, video, arrays) in enumerate(self._read(spans), start=1):
                coming.append((span.row, decoders.submit(self._clip, span, video, arrays)))
                # The first one goes to the caller; those behind it, and the next one, are ahead.
                while len(coming) > threads or (
                    len(coming) > 1 and sum(sizes[number - len(coming) + 1 : number + 1]) > _AHEAD_BYTES
                ):
                    row, clip = coming.popleft()
                    yield row, clip.result()
            while coming:
                row, clip = coming.popleft()
                yield row, clip.result()
        finally:
            decoders.shutdown(cancel_futures=True)

    def arrays(self, row: int) -> dict[str, np.ndarray]:
        offset, size = int(self._arrays[0][row]), int(self._arrays[1][row])
        if size == 0:
            return {}
        data = self._bytes(self.dataset.shard_url(int(self._shards[row])), offset, offset + size)
        return self._parsed(row, data)

    def _sorted_out(self, spans: Iterable[Span], held: dict[int, Clip]) -> tuple[dict[int, Clip], list[Span]]:
        """Clips that are decoded already, and the spans, widened, that are not."""
        found: dict[int, Clip] = {}
        missing: list[Span] = []
        for span in spans:
            clip = self._cache.get(span.row) or held.get(span.row)
            if clip is not None and clip.covers(span):
                found[span.row] = clip
            else:
                missing.append(self._widened(span))
        return found, missing

    def _widened(self, span: Span) -> Span:
        whole = int(self.num_frames[span.row])
        fits = whole * self._frame_bytes <= _WHOLE_EPISODE_BYTES
        return Span(span.row, 0, whole) if fits else span

    def _kept(self, row: int, clip: Clip) -> Clip:
        if row not in self._cache and clip.frames.nbytes <= self._free_bytes:
            self._cache[row] = clip
            self._free_bytes -= clip.frames.nbytes
        return clip

    def _read(self, spans: Sequence[Span]) -> Iterator[tuple[Span, bytes, bytes]]:
        """Each span's encoded video and arrays, neighbours in a shard with one request."""
        for url, first, last, request in self._ranges(spans):
            data = self._bytes(url, first, last)
            for span in request:
                yield span, *self._cut(data, first, span.row)

    def _bytes(self, url: str, begin: int, end: int) -> bytes:
        return self._objects.read(url, begin, end, revision=self.dataset.revision)

    def _ranges(self, spans: Sequence[Span]) -> Iterator[tuple[str, int, int, list[Span]]]:
        """URL and byte range of each request, and the spans that it serves."""
        for shard, group in itertools.groupby(sorted(spans), key=lambda span: int(self._shards[span.row])):
            for request in self._requests(group):
                first, last = self._extent(request[0].row)[0], max(self._extent(span.row)[1] for span in request)
                yield self.dataset.shard_url(shard), first, last, request

    def _requests(self, spans: Iterable[Span]) -> Iterator[list[Span]]:
        request: list[Span] = []
        for span in spans:
            begin, end = self._extent(span.row)
            if request:
                far = begin - self._extent(request[-1].row)[1] > _GAP_BYTES
                if far or end - self._extent(request[0].row)[0] > _REQUEST_BYTES:
                    yield request
                    request = []
            request.append(span)
        if request:
            yield request

    def _extent(self, row: int) -> tuple[int, int]:
        """Byte range in the shard that holds everything needed of an episode."""
        begin, end = int(self._video[0][row]), int(self._video[0][row] + self._video[1][row])
        if self._with_arrays and self._arrays[1][row]:
            begin = min(begin, int(self._arrays[0][row]))
            end = max(end, int(self._arrays[0][row] + self._arrays[1][row]))
        return begin, end

    def _cut(self, data: bytes, first: int, row: int) -> tuple[bytes, bytes]:
        """Video and arrays of one episode out of bytes that begin at ``first`` of its shard."""
        parts = []
        for begin, size in (self._video, self._arrays):
            offset = int(begin[row]) - first
            parts.append(data[offset : offset + int(size[row])] if offset >= 0 else b"")
        return parts[0], parts[1] if self._with_arrays else b""

    def _clip(self, span: Span, video: bytes, arrays: bytes) -> Clip:
        """The clip; what is damaged in the cache is read once more from the store."""
        try:
            return self._decoded(span, video, arrays)
        except DataError as error:
            url, extent = self.dataset.shard_url(int(self._shards[span.row])), self._extent(span.row)
            if not self._objects.forget(url, *extent, revision=self.dataset.revision):
                raise
            logger.warning("object=%s is read again: %s", url, error)
            return self._decoded(span, *self._cut(self._bytes(url, *extent), extent[0], span.row))

    def _decoded(self, span: Span, video: bytes, arrays: bytes) -> Clip:
        try:
            frames = _decode_span(video, span, self.dataset.info.image_size)
        except (SourceError, av.error.FFmpegError) as error:
            why = str(error) if isinstance(error, SourceError) else f"{video_faults.undecoded(error)}."
            raise DataError(self._damage(span.row, why)) from error
        return Clip(start=span.start, frames=frames, arrays=self._parsed(span.row, arrays) if arrays else {})

    def _parsed(self, row: int, data: bytes) -> dict[str, np.ndarray]:
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise DataError(self._damage(row, f"its arrays cannot be read: {error}")) from error

    def _damage(self, row: int, reason: str) -> str:
        episode = self.dataset.index["episode"][row].as_py()
        shard = self.dataset.shard_url(int(self._shards[row]))
        return f"episode {episode} in {shard} is damaged: {reason} Delete the shard and run the ingest stage again."


def episode_frames(dataset: Dataset, row: int) -> UInt8[np.ndarray, "t h w 3"]:
    """All frames of one episode."""
    reader = _reader_of(dataset, row)
    return reader.clips([Span(0, 0, int(reader.num_frames[0]))])[0].frames


def episode_arrays(dataset: Dataset, row: int) -> dict[str, np.ndarray]:
    """``actions`` float32 t a and ``proprioception`` float32 t p, where the episode has them."""
    return _reader_of(dataset, row).arrays(0)


def shard_episodes(
    dataset: Dataset, shard: int, *, threads: int = 0
) -> Generator[tuple[int, UInt8[np.ndarray, "t h w 3"]], None, None]:
    """Row and all frames of every episode of one shard, in order; each frame is decoded once, by so many threads that
    run ahead of the caller, or, without any, when it asks."""
    with closing(EpisodeReader(dataset, cache_bytes=0).episodes(shard, threads=threads)) as episodes:
        for row, clip in episodes:
            yield row, clip.frames


def _reader_of(dataset: Dataset, row: int) -> EpisodeReader:
    """A reader of one episode: preparing one for the whole index costs more than the episode."""
    return EpisodeReader(replace(dataset, index=dataset.index.slice(row, 1)), cache_bytes=0)


def _decode_span(video: bytes, span: Span, image_size: int) -> UInt8[np.ndarray, "t h w 3"]:
    """Frames of the span. Raises SourceError where the video holds fewer, or frames of another size."""
    pictures = decode(video) if span.start == 0 else _decode_from(video, span.start)
    frames = np.empty((span.stop - span.start, image_size, image_size, 3), np.uint8)
    count = 0
    for picture in itertools.islice(pictures, len(frames)):
        if picture.shape != frames.shape[1:]:
            raise SourceError(f"a frame has shape {picture.shape}, the dataset stores {frames.shape[1:]}.")
        frames[count] = picture
        count += 1
    if count < len(frames):
        raise SourceError(f"it holds {span.start + count} frames, the index counts at least {span.stop}.")
    return frames


def _decode_from(video: bytes, first: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Frames from number ``first`` on, entered at the key frame before it."""
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        assert stream.time_base is not None and stream.average_rate is not None
        ticks = 1 / (stream.average_rate * stream.time_base)
        container.seek(int(first * ticks), stream=stream, backward=True)
        converter = Converter()
        for picture in container.decode(stream):
            assert picture.pts is not None, "encode_mp4 numbers its frames"
            if round(picture.pts / ticks) >= first:
                yield converter.rgb(picture)
