"""What a run wants to tell its tracking server, kept on disk until the server has it.

A journal folder holds numbered segments (`entries-00000001.jsonl`, one entry per line), `delivered.json`
(number of the last entry the server took), `run.json` (which run this is) and `files/` (artifacts that wait).
A segment is removed once all of it is delivered, so the folder is as large as what is still to be sent.
"""

import json
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4_000_000
SYNC_SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """One thing to tell the server."""

    number: int
    kind: str
    """`metrics`, `params`, `tags`, `file`, `input` or `status`."""
    time_ms: int
    """When it happened; the server stores this time, so telling it twice changes nothing."""
    data: dict[str, Any]


class Journal:
    """Append-only and safe to use from several threads. Entries survive a killed process; at most
    `SYNC_SECONDS` of them are at the mercy of a machine that loses power."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._synced = 0.0
        (folder / "files").mkdir(parents=True, exist_ok=True)
        self._delivered = self._read_delivered()
        self._pending = deque(self._read_entries())
        self._last = max([self._delivered, *(entry.number for entry in self._pending)])

    def append(self, kind: str, data: dict[str, Any]) -> Entry:
        with self._lock:
            entry = Entry(self._last + 1, kind, int(time.time() * 1000), data)
            self._last = entry.number
            line = json.dumps({"n": entry.number, "kind": kind, "t": entry.time_ms, "data": data})
            file = self._segment(entry.number)
            file.write(line.encode() + b"\n")
            file.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
            self._pending.append(entry)
            return entry

    def keep_file(self, source: Path, name: str) -> str:
        """Copy a file into the journal; returns its place, relative to the folder."""
        with self._lock:
            taken = f"files/{self._last + 1:08d}-{time.time_ns()}"
        target = self.folder / taken / name
        target.parent.mkdir(parents=True)
        shutil.copyfile(source, target)
        return f"{taken}/{name}"

    def keep_bytes(self, data: bytes, name: str) -> str:
        """Write a file into the journal; returns its place, relative to the folder."""
        with self._lock:
            taken = f"files/{self._last + 1:08d}-{time.time_ns()}"
        target = self.folder / taken / name
        target.parent.mkdir(parents=True)
        target.write_bytes(data)
        return f"{taken}/{name}"

    def pending(self, limit: int) -> list[Entry]:
        """The oldest undelivered entries, in order."""
        with self._lock:
            return [self._pending[i] for i in range(min(limit, len(self._pending)))]

    def __len__(self) -> int:
        """Undelivered entries."""
        with self._lock:
            return len(self._pending)

    def delivered(self, entries: Sequence[Entry]) -> None:
        """Forget entries the server has; they are the oldest pending ones."""
        with self._lock:
            for entry in entries:
                first = self._pending.popleft()
                assert first.number == entry.number, "entries are delivered in order"
            self._delivered = entries[-1].number
            _write_whole(self.folder / "delivered.json", {"number": self._delivered})
            self._remove_delivered_segments()
        for entry in entries:
            if entry.kind == "file":
                shutil.rmtree((self.folder / entry.data["file"]).parent, ignore_errors=True)

    def reject(self, entry: Entry, reason: str) -> None:
        """Note an entry that the server will never take, so that it does not hold up the others."""
        record = {"n": entry.number, "kind": entry.kind, "t": entry.time_ms, "data": entry.data, "why": reason}
        with (self.folder / "rejected.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def read_run(self) -> dict[str, Any]:
        """What `write_run` kept; empty for a new journal."""
        path = self.folder / "run.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def write_run(self, run: dict[str, Any]) -> None:
        _write_whole(self.folder / "run.json", run)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None

    def _segment(self, number: int) -> IO[bytes]:
        if self._file is not None and self._file.tell() >= self._segment_bytes:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = (self.folder / f"entries-{number:08d}.jsonl").open("ab")
            if self._file.tell():
                self._file.write(b"\n")  # ends a line that a killed process left torn
        return self._file

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("entries-*.jsonl"))

    def _remove_delivered_segments(self) -> None:
        segments = self._segments()
        for segment, following in pairwise(segments):
            if _first_number(following) <= self._delivered + 1:
                segment.unlink()

    def _read_delivered(self) -> int:
        path = self.folder / "delivered.json"
        return int(json.loads(path.read_text())["number"]) if path.exists() else 0

    def _read_entries(self) -> list[Entry]:
        entries: list[Entry] = []
        for segment in self._segments():
            for line in filter(None, segment.read_bytes().splitlines()):
                try:
                    record = json.loads(line)
                except ValueError:
                    # The process died while it wrote this line.
                    logger.warning("journal line is torn file=%s", segment)
                    continue
                if record["n"] > self._delivered:
                    entries.append(Entry(record["n"], record["kind"], record["t"], record["data"]))
        return entries


def _first_number(segment: Path) -> int:
    return int(segment.stem.removeprefix("entries-"))


def _write_whole(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2))
    partial.replace(path)
