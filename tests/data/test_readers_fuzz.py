"""Files changed at random: a reader says what is wrong, or reads what is left; it never crashes, hangs, or takes
memory that the files do not explain."""

import importlib.util
import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lapa.config.data import LeRobotSource, RldsSource, SourceConfig, VideoFolderSource
from lapa.config.sources import (
    Hdf5Source,
    LapaJsonSource,
    NarratedVideosSource,
    SomethingSomethingSource,
    WebDatasetSource,
)
from lapa.data.convert import convert
from lapa.data.dataset import Dataset
from lapa.data.readers.build import build_reader
from lapa.errors import LapaError
from tests.builders import make_dataset
from tests.data.lerobot_sources import write_lerobot_v3
from tests.data.sources import moving_square, write_lerobot, write_rlds, write_video

CHANGES = 40
"""Per format; each seed is a damaged copy of its own."""
MOST_SECONDS = 120.0
"""For one damaged copy of a few kilobytes, on a busy machine; each takes milliseconds."""
MOST_BYTES = 2**30
"""That a format's damaged copies may add to the largest memory of this process."""


def videos(folder: Path) -> SourceConfig:
    for name in ("a.mp4", "b.webm", "c.mkv", "d.avi"):
        write_video(folder / name, moving_square(6), fps=10)
    return VideoFolderSource(url=str(folder))


def openx(folder: Path) -> SourceConfig:
    from tests.data.test_openx import write_fractal

    return RldsSource(url=str(write_fractal(folder)), openx="fractal20220817_data")


def lerobot_v2(folder: Path) -> SourceConfig:
    return LeRobotSource(url=str(write_lerobot(folder, [4, 5])))


def lerobot_v3(folder: Path) -> SourceConfig:
    return LeRobotSource(url=str(write_lerobot_v3(folder, [4, 5])))


def rlds(folder: Path) -> SourceConfig:
    return RldsSource(url=str(write_rlds(folder, 2)), fps=5)


def webdataset(folder: Path) -> SourceConfig:
    dataset = Dataset.open(make_dataset(folder.parent / f"{folder.name}-dataset"))
    convert(dataset, "webdataset", str(folder))
    return WebDatasetSource(url=str(folder))


def hdf5(folder: Path) -> SourceConfig:
    if importlib.util.find_spec("h5py") is None:
        pytest.skip("h5py is not installed")
    from tests.data.test_readers_hdf5 import write_robomimic

    write_robomimic(folder / "lift.hdf5", [4, 5])
    return Hdf5Source(url=str(folder))


def lapa_json(folder: Path) -> SourceConfig:
    from tests.data.test_readers_lapa_json import write_reference

    return LapaJsonSource(url=str(write_reference(folder, [3, 4])), fps=5)


def something(folder: Path) -> SourceConfig:
    write_video(folder / "7.webm", moving_square(5), fps=12)
    (folder / "labels.json").write_text(json.dumps([{"id": "7", "template": "Lift [it]", "placeholders": ["a"]}]))
    return SomethingSomethingSource(url=str(folder), labels=str(folder / "labels.json"))


def narrated(folder: Path) -> SourceConfig:
    write_video(folder / "v.mp4", moving_square(20), fps=10)
    (folder / "n.csv").write_text("video_id,start_timestamp,stop_timestamp,narration\nv,0,1,a\nv,1,2,b\n")
    return NarratedVideosSource(url=str(folder), narrations=str(folder / "n.csv"))


def damage(folder: Path, seed: int) -> str:
    """Cut, empty, or scramble one file; returns what was done."""
    rng = random.Random(seed)
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    data = bytearray(path.read_bytes())
    kind = rng.choice(["cut", "scramble", "scramble", "scramble", "empty", "repeat"])
    if kind == "cut":
        data = data[: rng.randrange(len(data) + 1)]
    elif kind == "empty":
        data = bytearray()
    elif kind == "repeat":
        data = data + data
    else:
        for _ in range(rng.choice([1, 4, 32])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(bytes(data))
    return f"{kind} {path.relative_to(folder)} (seed {seed})"


@pytest.mark.parametrize(
    "write", [videos, lerobot_v2, lerobot_v3, rlds, openx, webdataset, hdf5, lapa_json, something, narrated]
)
def test_a_damaged_source_is_told_or_read_but_never_crashes(tmp_path, write: Callable[[Path], SourceConfig]):
    source = write(tmp_path / "whole")
    before = _largest_memory()
    for seed in range(CHANGES):
        started = time.monotonic()
        copy = tmp_path / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", copy)
        done = damage(copy, seed)
        moved = source.model_validate(json.loads(source.model_dump_json().replace(str(tmp_path / "whole"), str(copy))))
        try:
            _read_everything(moved)
        except LapaError:
            pass
        except Exception as error:
            raise AssertionError(f"{done}: {error!r}") from error
        assert time.monotonic() - started < MOST_SECONDS, done
    assert _largest_memory() - before < MOST_BYTES


def _largest_memory() -> int:
    """Bytes; the system counts in kibibytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read_everything(source: SourceConfig) -> None:
    """As an ingest does: a problem of one item or one episode does not end it."""
    reader = build_reader(source)
    for item in reader.items():
        try:
            for episode in reader.read(item):
                if not isinstance(episode, LapaError):
                    for _ in episode.frames():
                        pass
        except LapaError:
            continue
