"""The part of a run's record that stays in the stage's own folder, whatever becomes of the tracking server.

`metrics.jsonl` has one line per logged step, `{"step": 20, "time": 1700000000.0, "metrics": {"loss": 0.5}}`;
`pictures/` has what was logged as images. Reports are built from these.
"""

import json
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from lapa.files import exists, join, read_bytes, write_bytes

REMOTE_SECONDS = 30.0
"""An object store has no append: the file is written again this often."""


class StageLog:
    """Writes `metrics.jsonl` and `pictures/` at a local path or any fsspec URL.

    A resumed stage repeats the steps after its checkpoint; their old lines are dropped when the first
    repeated step arrives, so the file reads as one uninterrupted run.
    """

    def __init__(self, url: str) -> None:
        self._url = join(url, "metrics.jsonl")
        self._pictures = join(url, "pictures")
        self._lock = threading.Lock()
        self._rows: list[str] = read_bytes(self._url).decode().splitlines() if exists(self._url) else []
        self._is_first = True
        self._is_dirty = False
        self._written = time.monotonic()
        fs, path = url_to_fs(self._url)
        self._local = Path(path) if isinstance(fs, LocalFileSystem) else None

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        row = {"step": step, "time": time.time(), "metrics": {name: _plain(value) for name, value in values.items()}}
        with self._lock:
            if self._is_first:
                self._forget_after(step)
                self._is_first = False
            line = json.dumps(row)
            self._rows.append(line)
            if self._local is None:
                self._is_dirty = True
                return
            self._local.parent.mkdir(parents=True, exist_ok=True)
            with self._local.open("a") as file:
                file.write(line + "\n")

    def picture(self, png: bytes, name: str) -> None:
        write_bytes(join(self._pictures, f"{name}.png"), png)

    def flush(self, *, force: bool = False) -> None:
        """Bring a remote copy up to date, at most every `REMOTE_SECONDS` unless forced."""
        with self._lock:
            if not self._is_dirty or not (force or time.monotonic() - self._written > REMOTE_SECONDS):
                return
            data = _file(self._rows)
            self._is_dirty = False
            self._written = time.monotonic()
        try:
            write_bytes(self._url, data)
        except Exception:
            self._is_dirty = True
            raise

    def _forget_after(self, step: int) -> None:
        kept = [row for row in self._rows if (record := _record(row)) and record["step"] <= step]
        if kept == self._rows:
            return
        self._rows = kept
        write_bytes(self._url, _file(kept))


def read_history(url: str) -> dict[str, list[tuple[int, float]]]:
    """Metric name -> (step, value) in step order, from a stage's folder; empty when nothing was logged.

    A step that was logged twice keeps its later value; values that are not finite are NaN.
    """
    path = join(url, "metrics.jsonl")
    if not exists(path):
        return {}
    points: dict[str, dict[int, float]] = {}
    for line in read_bytes(path).decode().splitlines():
        if record := _record(line):
            for name, value in record["metrics"].items():
                points.setdefault(name, {})[record["step"]] = math.nan if value is None else float(value)
    return {name: sorted(series.items()) for name, series in points.items()}


def _plain(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _record(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None  # torn by a process that died while writing


def _file(rows: list[str]) -> bytes:
    return "".join(row + "\n" for row in rows).encode()
