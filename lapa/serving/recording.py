"""Keeps what robots saw and were answered, in an object store and off the path of their requests.

A thread of its own takes observations from a bounded queue; when it cannot follow they are dropped and counted, and no
robot waits. `recording_format` says what is written.
"""

import hashlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lapa import files
from lapa.config.serving import ServingConfig
from lapa.serving.metrics import Metrics
from lapa.serving.recording_format import Piece, Seen, pack_shard

logger = logging.getLogger(__name__)

PIECE_ROWS = 1024
PIECE_BYTES = 16 * 2**20
"""A longer or larger episode is continued in another piece: pieces are in memory until they are stored."""
OPEN_PIECES = 128
IDLE_SECONDS = 60.0
"""An episode that sent nothing for so long is over."""
CLOSE_SECONDS = 10.0
"""For what is left when the server ends: less than a pod is given beyond its grace (`lapa_k8s/serving.py`)."""
ATTEMPTS = 5
"""To store one shard."""


class Recorder:
    """`offer` returns at once; `close` stores what is there."""

    def __init__(self, config: ServingConfig, url: str, card: Mapping[str, Any], metrics: Metrics) -> None:
        self._config, self._card, self._metrics = config, card, metrics
        self._folder = files.join(url, str(card["digest"])[:12])
        self._server = uuid.uuid4().hex[:8]
        self._queue: queue.SimpleQueue[Seen | None] = queue.SimpleQueue()
        self._waiting_bytes, self._lock = 0, threading.Lock()
        self._pieces: dict[str, Piece] = {}
        self._samples: dict[str, dict[str, bytes]] = {}
        self._sample_rows, self._sample_bytes, self._since = 0, 0, 0.0
        self._num_pieces = self._num_shards = 0
        self._closing = threading.Event()
        # A daemon: a store that never answers must not keep a drained server alive.
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()
        logger.info("event=recording url=%s share=%g", self._folder, self._config.record_share)

    def wants(self, episode: str) -> bool:
        """Whether the episode is of the share that is recorded: all of it or nothing."""
        place = int(hashlib.sha256(episode.encode()).hexdigest()[:13], 16) / 16**13
        return place < self._config.record_share

    def offer(self, seen: Seen) -> None:
        """Take it, or drop and count it where too much waits already."""
        with self._lock:
            if self._waiting_bytes + seen.num_bytes > self._config.record_queue_bytes:
                self._drop("queue", 1)
                return
            self._waiting_bytes += seen.num_bytes
        self._queue.put(seen)

    def close(self, seconds: float) -> None:
        """Store what was taken; after so many seconds what is left is lost, and the log says so."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("event=recording_lost message='not stored within %g s' url=%s", seconds, self._folder)

    def _work(self) -> None:
        is_over = False
        while not is_over:
            try:
                seen = self._queue.get(timeout=1.0)
                is_over = seen is None
            except queue.Empty:
                seen = None
            if seen is not None:
                self._add(seen)
            self._tidy(time.monotonic(), everything=is_over)

    def _add(self, seen: Seen) -> None:
        with self._lock:
            self._waiting_bytes -= seen.num_bytes
        piece = self._pieces.get(seen.episode)
        if piece is not None and not piece.takes(seen):
            self._finish(seen.episode)
            piece = None
        try:
            if piece is None:
                piece = self._pieces[seen.episode] = Piece(seen)
            piece.add(seen)
        except Exception:  # an encoder's own errors: they cost the piece, not the server
            logger.exception("event=recording_failed episode=%s", seen.episode)
            lost = self._pieces.pop(seen.episode, None)
            self._drop("error", 1 + (len(lost.rows) if lost is not None else 0))

    def _tidy(self, now: float, *, everything: bool) -> None:
        """End pieces that are long, old or idle; store a shard that is large or old."""
        for episode, piece in list(self._pieces.items()):
            is_idle = now - piece.touched > IDLE_SECONDS
            is_old = now - piece.began > self._config.record_shard_seconds
            is_full = len(piece.rows) >= PIECE_ROWS or piece.num_bytes >= PIECE_BYTES
            if everything or not episode or is_idle or is_old or is_full or len(self._pieces) > OPEN_PIECES:
                self._finish(episode)
        is_due = now - self._since > self._config.record_shard_seconds
        if self._samples and (everything or is_due or self._sample_bytes >= self._config.record_shard_bytes):
            self._store()

    def _finish(self, episode: str) -> None:
        piece = self._pieces.pop(episode)
        self._num_pieces += 1
        try:
            members = piece.members(self._card)
        except Exception:
            logger.exception("event=recording_failed episode=%s", episode)
            self._drop("error", len(piece.rows))
            return
        if not self._samples:
            self._since = time.monotonic()
        self._samples[f"{episode or 'alone'}-{self._num_pieces:06d}"] = members
        self._sample_rows += len(piece.rows)
        self._sample_bytes += sum(map(len, members.values()))

    def _store(self) -> None:
        when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        url = files.join(self._folder, f"{when}-{self._server}-{self._num_shards:05d}.tar")
        data, rows = pack_shard(self._samples), self._sample_rows
        self._samples, self._sample_rows, self._sample_bytes = {}, 0, 0
        self._num_shards += 1
        if self._written(url, data):
            self._metrics.recorded.inc(rows)
            self._metrics.recorded_bytes.inc(len(data))
            logger.info("event=recorded url=%s observations=%d bytes=%d", url, rows, len(data))
        else:
            self._drop("store", rows)

    def _written(self, url: str, data: bytes) -> bool:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                files.write_bytes(url, data)
                return True
            except Exception as error:  # stores' clients raise errors of their own packages
                logger.warning("event=recording_away url=%s attempt=%d error=%r", url, attempt, error)
            if attempt < ATTEMPTS:
                self._closing.wait(2.0**attempt)
        return False

    def _drop(self, reason: str, rows: int) -> None:
        self._metrics.recording_dropped.labels(reason).inc(rows)
