"""How fast frame pairs come out of the training stream: from local files, from S3, and beside other streams.

    python benchmarks/stream.py [--clips 64] [--frames 100] [--rounds 3] [--out FILE]

The same H.264 clips are read by all: LAPA's stream (local files; a bucket with an empty cache, and with a warm one),
WebDataset on the very same tar files, and mosaicml-streaming on MDS files of the same bytes, where it is installed:

    pip install --no-deps mosaicml-streaming==0.13.0 Brotli python-snappy cramjam zstd xxhash catalogue

Each gives batches of 64 shuffled pairs as uint8 tensors, with a shuffle buffer of 2,048 pairs and the same decoder, in
this process and without workers; the middle of one epoch is measured, round by round and in turns. The other two read
local files, which is what their own caches of a bucket are once they are warm. CPU seconds count all threads of this
process, not the S3 server (SeaweedFS, from the dev extra); on a busy machine they are what to compare. JSON goes to
stdout, or to a file.
"""

import argparse
import functools
import importlib.util
import io
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from lapa import files
from lapa.config.data import IngestConfig, StreamConfig, VideoEncoding, VideoFolderSource
from lapa.config.reads import CacheConfig, ReadConfig
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.objects import object_reader
from lapa.data.stream import SampleSpec, training_batches
from lapa.data.video import decode, encode_mp4
from tests.s3_server import running_s3

FPS = 10.0
WINDOW = 5
BATCH = 64
SHUFFLE = 2048
Pair = tuple[np.ndarray, int]
"""All frames of a clip, and the timestep of the first one."""
Stream = Callable[[int], Iterator[int]]
"""From a seed to the number of pairs in each batch."""


def make_clips(folder: Path, clips: int, frames: int, size: int) -> None:
    """Textures that drift and brighten: as hard to compress as a quiet camera."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for clip in range(clips):
        coarse = generator.integers(0, 255, (size // 8, size // 8, 3), np.uint8)
        texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8)) + generator.integers(0, 24, (size, size, 3), np.uint8)
        drift = [np.roll(texture, (t * (1 + clip % 3), t * (clip % 4)), (0, 1)) for t in range(frames)]
        (folder / f"clip_{clip:05d}.mp4").write_bytes(encode_mp4(drift, FPS, VideoEncoding()))


def ours(dataset: Dataset, seed: int) -> Iterator[int]:
    """Pairs in each batch, as for all others below."""
    lanes = 8
    config = StreamConfig(lanes=lanes, shuffle_samples=SHUFFLE // lanes, validation_share=0, workers=0)
    stream = training_batches(
        dataset,
        SampleSpec(window_seconds=WINDOW / FPS),
        config,
        batch_size=BATCH,
        seed=seed,
        start_step=0,
        rank=0,
        world_size=1,
    )
    for batch in stream:
        yield batch.size


def others(pairs: Iterable[Pair]) -> Iterator[int]:
    pairs = iter(pairs)
    while batch := list(itertools.islice(pairs, BATCH)):
        current = torch.from_numpy(np.stack([frames[t] for frames, t in batch])).permute(0, 3, 1, 2)
        future = torch.from_numpy(np.stack([frames[t + WINDOW] for frames, t in batch])).permute(0, 3, 1, 2)
        assert current.shape == future.shape
        yield len(batch)


def pairs_of(videos: Iterable[bytes]) -> Iterator[Pair]:
    for video in videos:
        frames = np.stack(list(decode(video)))
        for timestep in range(len(frames) - WINDOW):
            yield frames, timestep


def with_webdataset(shards: list[str], seed: int) -> Iterator[int]:
    source = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed, detshuffle=False)
    pairs = pairs_of(sample["mp4"] for sample in source)
    return others(webdataset.filters._shuffle(pairs, SHUFFLE, SHUFFLE, rng=random.Random(seed)))


def with_mosaic(folder: str, seed: int) -> Iterator[int]:
    import streaming

    source = streaming.StreamingDataset(
        local=folder, shuffle=True, shuffle_seed=seed, batch_size=BATCH, num_canonical_nodes=1
    )
    pairs = pairs_of(sample["video"] for sample in source)
    return others(webdataset.filters._shuffle(pairs, SHUFFLE, SHUFFLE, rng=random.Random(seed)))


def has_mosaic() -> bool:
    if importlib.util.find_spec("streaming") is None:
        return False
    # Its image datasets, which nothing here uses, need a torchvision of the very build of torch.
    sys.modules["streaming.vision"] = types.ModuleType("streaming.vision")
    return True


def write_mosaic(folder: Path, dataset: Dataset) -> str:
    """The bytes that `ingest` stored, clip by clip, in shards of the same number of clips."""
    import streaming

    offsets, sizes = (dataset.index[name].to_pylist() for name in ("video_offset", "video_bytes"))
    shards = dataset.index["shard"].to_pylist()
    limit = max(sizes_of(dataset))
    with streaming.MDSWriter(out=str(folder), columns={"video": "bytes"}, size_limit=limit) as writer:
        for shard, offset, size in zip(shards, offsets, sizes, strict=True):
            stored = io.BytesIO(files.read_bytes(dataset.shard_url(shard)))
            stored.seek(offset)
            writer.write({"video": stored.read(size)})
    return str(folder)


def measured(stream: Iterator[int], pairs: int) -> dict[str, float]:
    """The middle of an epoch: after each has filled its shuffle buffer, and before any runs out of clips.

    Outside of it, who reads ahead works for pairs that are not counted, and who has read ahead does not work at all.
    """
    margin = min(SHUFFLE, pairs // 4)
    skipped = seen = 0
    while skipped < margin:
        skipped += next(stream)
    wall, cpu = time.perf_counter(), time.process_time()
    while skipped + seen + BATCH <= pairs - margin:
        seen += next(stream)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"pairs_per_second": seen / wall, "cpu_seconds_per_1000_pairs": 1000 * cpu / seen}


def compared(
    rounds: int, streams: dict[str, Callable[[int], Iterator[int]]], pairs: int
) -> dict[str, dict[str, float]]:
    """Medians over rounds, in which all take turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in streams}
    for number in range(rounds):
        for name, stream in streams.items():
            found[name].append(measured(stream(number), pairs))
            sys.stderr.write(f"round={number} stream={name} {found[name][-1]}\n")
    return {
        name: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for name, results in found.items()
    }


def run(folder: Path, clips: int, frames: int, size: int, rounds: int) -> dict[str, Any]:
    make_clips(folder / "clips", clips, frames, size)
    source = VideoFolderSource(url=str(folder / "clips"))
    ingest(IngestConfig(source=source, image_size=size, episodes_per_shard=max(clips // 8, 1)), str(folder / "dataset"))
    local = Dataset.open(str(folder / "dataset"))
    pairs = clips * (frames - WINDOW)
    shards = [local.shard_url(shard) for shard in range(local.info.num_shards)]
    (folder / "s3").mkdir()
    with running_s3(folder / "s3") as server:
        bucket = server.new_bucket("benchmark")
        files.upload(folder / "dataset", f"{bucket}/dataset", last="dataset.json")
        remote = functools.partial(opened, f"{bucket}/dataset")
        for shard in range(local.info.num_shards):
            warm = remote(folder / "warm")
            object_reader(warm.reads).read(warm.shard_url(shard), 0, sizes_of(local)[shard], revision=warm.revision)
        streams: dict[str, Stream] = {
            "lapa-local": lambda seed: ours(local, seed),
            "lapa-s3-cold": lambda seed: ours(remote(folder / f"cold-{seed}"), seed),
            "lapa-s3-warm": lambda seed: ours(remote(folder / "warm"), seed),
            "webdataset-local": lambda seed: with_webdataset(shards, seed),
        }
        if has_mosaic():
            converted = write_mosaic(folder / "mds", local)
            streams["mosaicml-streaming-local"] = lambda seed: with_mosaic(converted, seed)
        results = compared(rounds, streams, pairs)
    return {
        "clips": clips, "frames": frames, "image_size": size, "pairs": pairs, "rounds": rounds,
        "shard_bytes": sum(sizes_of(local)),
        "streams": results, "ratios": ratios(results), **machine(),
    }  # fmt: skip


def opened(url: str, cache: Path) -> Dataset:
    return Dataset.open(url, reads=ReadConfig(cache=CacheConfig(dir=str(cache))))


def sizes_of(dataset: Dataset) -> list[int]:
    """Bytes of each shard of a local dataset."""
    return [Path(dataset.shard_url(shard)).stat().st_size for shard in range(dataset.info.num_shards)]


def ratios(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Above 1: the first is ahead. Of CPU seconds, which other programs on the machine change least, and of speed."""
    found = {}
    contests = [("lapa-s3-warm", "lapa-local"), ("lapa-s3-cold", "lapa-local")]
    contests += [("lapa-local", name) for name in results if not name.startswith("lapa")]
    for first, second in contests:
        cpu, speed = "cpu_seconds_per_1000_pairs", "pairs_per_second"
        found[f"{first} / {second}: CPU"] = results[second][cpu] / results[first][cpu]
        found[f"{first} / {second}: speed"] = results[first][speed] / results[second][speed]
    return found


def machine() -> dict[str, Any]:
    repository = Path(__file__).parents[1]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {"commit": commit, "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "load": os.getloadavg()[0], "torch": torch.__version__}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=100, help="of each clip")
    parser.add_argument("--size", type=int, default=128, help="side of a frame, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), options.clips, options.frames, options.size, options.rounds)
    text = json.dumps(result, indent=2) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
