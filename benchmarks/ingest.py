"""What ingest costs: beside ffmpeg doing the same work, and in memory over a bucket of many clips.

    python benchmarks/ingest.py speed [--clips 12] [--frames 150] [--rounds 3] [--out FILE]
    python benchmarks/ingest.py memory [--clips 100000] [--per-folder 1000] [--workers 2] [--plan-only] [--out FILE]
    python benchmarks/ingest.py finish [--clips 100000] [--out FILE]

`speed` transcodes the same H.264 clips (640x480, 25 fps) to 256x256, one thread each: with ffmpeg (the one on the PATH,
or imageio-ffmpeg's) with the encoder settings that ingest has, and with ingest, with and without looking for what is
wrong with a clip. Both scale in YUV; ingest measures frames, hashes and indexes besides. CPU seconds count all threads
and, of ffmpeg, its processes; on a busy machine they are what to compare.

`memory` puts many tiny clips into a bucket of a SeaweedFS server on this machine (dev extra), lists them, ingests them,
and tells the resident memory of the process that plans, and of its largest worker, as the work goes on.

`finish` is the end of that by itself: shards in the bucket, one of them ingested and the others its copies under other
names, become a dataset. So the end of many clips is measured in minutes, for what grows there are the records of clips.
"""

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from lapa import files
from lapa.config.conventions import Conventions
from lapa.config.data import IngestConfig, VideoEncoding, VideoFolderSource
from lapa.config.quality import QualityConfig
from lapa.data.dataset import shard_name
from lapa.data.ingest import ingest
from lapa.data.ingest_finish import finish
from lapa.data.ingest_plan import Plan
from lapa.data.ingest_records import UNITS_FOLDER, made_record
from lapa.data.readers.base import SourceItem
from lapa.data.readers.build import build_reader
from lapa.data.video import encode_mp4

if TYPE_CHECKING:
    from tests.s3_server import S3Server

OFF = QualityConfig(static="off", black="off", shaky="off", cuts="off", duplicates="off")
SIZE, FPS = 256, 25
PER_SHARD = 500
"""Clips, where memory is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "finish"])
    parser.add_argument("--clips", type=int)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-folder", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plan-only", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lapa-ingest-benchmark-") as folder:
        if options.what == "speed":
            result = measure_speed(Path(folder), options.clips or 12, options.frames, options.rounds)
        elif options.what == "finish":
            result = measure_finish(Path(folder), options.clips or 100_000)
        else:
            count, workers = options.clips or 100_000, options.workers
            result = measure_memory(Path(folder), count, options.per_folder, workers, plan_only=options.plan_only)
    text = json.dumps({"machine": f"{platform.machine()}, {psutil.cpu_count()} cores", **result}, indent=2)
    if options.out is not None:
        options.out.write_text(text + "\n")
    else:
        sys.stdout.write(text + "\n")


def measure_speed(folder: Path, clips: int, frames: int, rounds: int) -> dict[str, Any]:
    """CPU seconds and frames per CPU second of each way, the best of the rounds; ingest's share of ffmpeg's speed."""
    source = folder / "source"
    source.mkdir()
    for number in range(clips):
        (source / f"{number:04d}.mp4").write_bytes(_camera_clip(number, frames))
    ways: dict[str, Callable[[Path], None]] = {
        "ffmpeg": lambda target: _with_ffmpeg(source, target),
        "ingest": lambda target: _with_ingest(source, target, QualityConfig()),
        "ingest-quality-off": lambda target: _with_ingest(source, target, OFF),
    }
    _with_ingest(source, folder / "warm-up", QualityConfig())  # imports, and the encoder's tables
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            before = _cpu_seconds()
            way(folder / f"{name}-{number}")
            found[name].append(_cpu_seconds() - before)
    total = clips * frames
    speeds = {name: total / min(seconds) for name, seconds in found.items()}
    return {
        "frames": total,
        "cpu_seconds": {name: [round(second, 3) for second in seconds] for name, seconds in found.items()},
        "frames_per_cpu_second": {name: round(speed, 1) for name, speed in speeds.items()},
        "share_of_ffmpeg": {name: round(speed / speeds["ffmpeg"], 3) for name, speed in speeds.items()},
    }


def _camera_clip(seed: int, frames: int) -> bytes:
    """A textured scene under a slow pan, with a hand-sized square that moves: about as hard to code as a real one."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)
    ground = cv2.resize(small, (900, 600), interpolation=cv2.INTER_CUBIC)

    def picture(t: int) -> np.ndarray:
        left, top = t % 200, t // 3 % 100
        frame = ground[top : top + 480, left : left + 640].copy()
        at = 40 + 3 * t % 400
        frame[180:300, at : at + 120] = (220, 60, 30)
        return frame

    return encode_mp4((picture(t) for t in range(frames)), FPS, VideoEncoding(crf=20))


def _with_ffmpeg(source: Path, target: Path) -> None:
    target.mkdir()
    program = _ffmpeg()
    scale = f"crop='min(iw,ih)':'min(iw,ih)',scale={SIZE}:{SIZE}:flags=area"
    settings = ["-preset", "veryfast", "-crf", "18", "-g", str(FPS), "-bf", "0", "-x264-params", "mbtree=0:threads=1"]
    for clip in sorted(source.iterdir()):
        command = [
            program, "-v", "error", "-threads", "1", "-i", str(clip), "-vf", scale, "-filter_threads", "1",
            "-c:v", "libx264", *settings, "-pix_fmt", "yuv420p", "-threads", "1", str(target / clip.name),
        ]  # fmt: skip
        subprocess.run(command, check=True)


def _ffmpeg() -> str:
    if (found := shutil.which("ffmpeg")) is not None:
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _with_ingest(source: Path, target: Path, quality: QualityConfig) -> None:
    config = IngestConfig(source=VideoFolderSource(url=str(source)), image_size=SIZE, workers=1, quality=quality)
    ingest(config, str(target))


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def measure_memory(folder: Path, clips: int, per_folder: int, workers: int, *, plan_only: bool) -> dict[str, Any]:
    """Resident MiB over the work, at ten places and at the end."""
    from tests.s3_server import running_s3  # with pytest, of the dev extra, which `speed` does without

    (folder / "s3").mkdir()
    with running_s3(folder / "s3") as server:
        bucket = server.new_bucket("many")
        started = time.monotonic()
        _fill(server, bucket, folder, clips, per_folder)
        filled = time.monotonic() - started
        config = IngestConfig(
            source=VideoFolderSource(url=f"{bucket}/raw"), image_size=16, workers=workers, episodes_per_shard=PER_SHARD
        )
        seen: list[dict[str, float]] = []

        def progress(done: int, total: int, message: str) -> None:
            if total and done * 10 // total >= len(seen):
                seen.append({"done": done / total, "seconds": round(time.monotonic() - started, 1), **_resident()})

        before = _resident()
        started = time.monotonic()
        plan = Plan(build_reader(config.source).items(), config)
        listed = time.monotonic() - started
        assert plan.num_items == clips, f"{plan.num_items} clips were listed"
        planned = {
            "clips": clips,
            "fill_seconds": round(filled, 1),
            "listing_seconds": round(listed, 1),
            "before": before,
            "planned": _resident(),
        }
        if plan_only:
            return planned
        started = time.monotonic()
        report = ingest(config, f"{bucket}/dataset", progress=progress)
        seconds = time.monotonic() - started
        return planned | {
            "episodes": report.num_episodes,
            "ingest_seconds": round(seconds, 1),
            "resident_mib": [*seen, {"done": 1.0, **_resident()}],
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }


def measure_finish(folder: Path, clips: int) -> dict[str, Any]:
    """Resident MiB before and after the end, their peak, and its CPU seconds."""
    from tests.s3_server import running_s3  # with pytest, of the dev extra

    (folder / "s3").mkdir()
    with running_s3(folder / "s3") as server:
        bucket = server.new_bucket("many")
        _fill(server, bucket, folder, PER_SHARD, PER_SHARD)
        source = VideoFolderSource(url=f"{bucket}/raw")
        config = IngestConfig(source=source, image_size=16, workers=1, episodes_per_shard=PER_SHARD)
        url = f"{bucket}/dataset"
        ingest(config, url)
        items = (SourceItem(key=str(number), fingerprint="", episodes=1) for number in range(clips))
        plan = Plan(items, config)
        for number in range(1, len(plan)):
            _copy_unit(url, number)
        before, seconds = _resident()["planner_mib"], _cpu_seconds()
        report = finish(plan, config, url, Conventions())
        return {
            "clips": clips,
            "episodes": report.num_episodes,
            "duplicates": report.quality["duplicates"].tagged,
            "before_mib": before,
            "after_mib": _resident()["planner_mib"],
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "cpu_seconds": round(_cpu_seconds() - seconds, 1),
        }


def _copy_unit(url: str, number: int) -> None:
    """The first unit once more, under other names."""
    record = made_record(url, 0)
    for row in record.rows:
        row |= {name: f"{number:05d}-{row[name]}" for name in ("episode", "source")} | {"shard": number}
    units, shards = files.join(url, UNITS_FOLDER), files.join(url, "shards")
    files.write_bytes(files.join(shards, shard_name(number)), files.read_bytes(files.join(shards, shard_name(0))))
    thumbs = files.read_bytes(files.join(units, "00000.twins.npz"))
    files.write_bytes(files.join(units, f"{number:05d}.twins.npz"), thumbs)
    files.write_json(files.join(units, f"{number:05d}.json"), record.model_dump(mode="json"))


def _fill(server: "S3Server", bucket: str, folder: Path, clips: int, per_folder: int) -> None:
    """Clips of two frames, many of which are alike; each name its own. Put by the server's own program: S3 takes 20 ms
    for each."""
    bodies = [_tiny_clip(number) for number in range(min(clips, 256))]
    raw = folder / "raw"
    for number in range(clips):
        clip = raw / f"{number // per_folder:05d}" / f"clip-{number:07d}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(bodies[number % len(bodies)])
    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    target = f"{server.filer}/buckets/{bucket.removeprefix('s3://')}/"
    subprocess.run([weed, "filer.copy", "-c", "16", str(raw), target], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(raw)


def _tiny_clip(seed: int) -> bytes:
    frames = np.random.default_rng(seed).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    return encode_mp4(iter(frames), 5, VideoEncoding())


def _resident() -> dict[str, float]:
    """Of the process that plans, and the largest of its workers."""
    own = psutil.Process()
    workers = [child for child in own.children() if "spawn_main" in " ".join(child.cmdline())]
    largest = max((worker.memory_info().rss for worker in workers), default=0)
    return {"planner_mib": round(own.memory_info().rss / 2**20, 1), "worker_mib": round(largest / 2**20, 1)}


if __name__ == "__main__":
    av.logging.set_level(av.logging.PANIC)
    main()
