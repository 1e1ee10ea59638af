"""Labelling end to end from 240p H.264: CPU seconds per pair, beside the reference's loader of extracted pictures.

    python benchmarks/labelling.py [--clips 8] [--frames 60] [--reference DIR] [--out FILE]

Ours decodes each stored video in order, once, to uint8; the device resizes. The reference extracts JPEG files first
(not counted), and its dataset class opens two of them per pair, resizes and makes floats. DIR is the `laq` folder of a
checkout of it. It wants torchvision, whose four operations on PIL images are stood in for where it is missing: they are
PIL's own resize and a division, as in torchvision. CPU seconds of this process, one thread.

An accelerator computes while the host decodes. `overlap` shows how much of that the stage uses, without one: a model
that only waits, for as long as the decoder needs, beside one decoding thread; time on the clock, all clips in a shard.
"""

import argparse
import importlib.util
import random
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import in_turns, parser_of, write
from benchmarks.parity import small_config
from benchmarks.stream import make_clips
from lapa.config.data import IngestConfig, VideoFolderSource
from lapa.data import frames as frame_reading
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.stream import shard_episodes
from lapa.models.latent_action.model import build_latent_action_model
from lapa.stages.labellers import LatentActionLabeller

WINDOW = 5
PUBLISHED_SIZE = 256
CPU = torch.device("cpu")
GOALS = {"loader_ratio": 5.0, "overlap.one_thread_ahead": 0.9}


def dataset_of(folder: Path, clips: int, frames: int, size: int) -> Dataset:
    make_clips(folder / "clips", clips, frames, size)
    source = VideoFolderSource(url=str(folder / "clips"))
    ingest(IngestConfig(source=source, image_size=size, episodes_per_shard=clips), str(folder / "dataset"))
    return Dataset.open(str(folder / "dataset"))


def episodes_of(dataset: Dataset, threads: int = 0) -> Iterator[np.ndarray]:
    for shard in range(dataset.info.num_shards):
        for _, frames in shard_episodes(dataset, shard, threads=threads):
            yield frames


def overlap(dataset: Dataset, rounds: int) -> dict[str, float]:
    """Share of the slower part's speed that both reach together; both alike, which is the hardest case."""
    decoding: list[float] = []
    together: list[float] = []
    in_turn: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        episodes = sum(1 for _ in episodes_of(dataset))
        decoding.append(time.perf_counter() - started)
        for threads, found in ((1, together), (0, in_turn)):
            started = time.perf_counter()
            for _ in episodes_of(dataset, threads):
                time.sleep(decoding[-1] / episodes)
            found.append(decoding[-1] / (time.perf_counter() - started))
    return {"one_thread_ahead": statistics.median(together), "in_turn": statistics.median(in_turn)}


def decoded_frames(dataset: Dataset) -> float:
    """Pictures that the decoder made, per frame of the dataset."""
    counted, original = [0], frame_reading.decode

    def counting(*arguments: Any, **options: Any) -> Iterator[Any]:
        for picture in original(*arguments, **options):
            counted[0] += 1
            yield picture

    frame_reading.decode = counting  # type: ignore[assignment]
    try:
        frames = sum(len(episode) for episode in episodes_of(dataset))
    finally:
        frame_reading.decode = original
    return counted[0] / frames


def extract(dataset: Dataset, folder: Path) -> None:
    """Pictures as the reference wants them: a folder per video, `imgs0.jpg` and so on."""
    for number, episode in enumerate(episodes_of(dataset)):
        (folder / f"video{number}").mkdir(parents=True)
        for t, frame in enumerate(episode):
            Image.fromarray(frame).save(folder / f"video{number}" / f"imgs{t}.jpg", quality=95)


def reference_loader(reference: Path, pictures: Path, size: int) -> Any:
    """Its own dataset class, from its own file."""
    if importlib.util.find_spec("torchvision") is None:
        sys.modules |= {"torchvision": types.ModuleType("torchvision")}
        sys.modules["torchvision"].transforms = stand_in()  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("reference_data", reference / "laq_model" / "data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ImageVideoDataset(str(pictures), size, offset=WINDOW)


def stand_in() -> Any:
    """torchvision.transforms on PIL images."""

    def compose(steps: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def run(image: Any) -> Any:
            for step in steps:
                image = step(image)
            return image

        return run

    def resize(size: int) -> Callable[[Any], Any]:
        def run(image: Any) -> Any:
            short = min(image.size)
            sides = tuple(int(size * side / short) for side in image.size)
            return image if short == size else image.resize(sides, Image.Resampling.BILINEAR)

        return run

    def to_tensor(image: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)

    transforms: Any = types.ModuleType("transforms")
    transforms.Compose, transforms.Resize = compose, resize
    transforms.Lambda, transforms.ToTensor = (lambda function: function), (lambda: to_tensor)
    return transforms


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    dataset = dataset_of(folder, options.clips, options.frames, options.side)
    pairs = options.clips * (options.frames - WINDOW)
    config = small_config()
    labeller = LatentActionLabeller(build_latent_action_model(config).eval())
    held = list(episodes_of(dataset))

    def label(episodes: Iterator[np.ndarray]) -> None:
        for number, episode in enumerate(episodes):
            labeller.label(str(number), episode, window=WINDOW, batch_size=64)

    calls: dict[str, Callable[[], Any]] = {
        "decode": lambda: sum(len(episode) for episode in episodes_of(dataset)),
        "model": lambda: label(iter(held)),
        "end to end": lambda: label(episodes_of(dataset)),
    }
    if options.reference:
        extract(dataset, folder / "pictures")
        loader = reference_loader(options.reference, folder / "pictures", PUBLISHED_SIZE)
        random.seed(0)
        calls["reference loader"] = lambda: [loader[item % options.clips] for item in range(pairs)]
    seconds = in_turns(calls, rounds=options.rounds, device=CPU)
    per_pair = {name: 1000 * spent / pairs for name, spent in seconds.items()}
    ratios = {
        # One after the other on one core, the best there is takes the time of both.
        "end_to_end_over_parts": seconds["end to end"] / (seconds["decode"] + seconds["model"]),
        "share_of_slower_part_on_one_core": max(seconds["decode"], seconds["model"]) / seconds["end to end"],
    }
    if "reference loader" in seconds:
        ratios["loader_ratio"] = seconds["reference loader"] / seconds["decode"]
    return {
        "clips": options.clips, "frames": options.frames, "side": options.side, "pairs": pairs,
        "rounds": options.rounds,
        "cpu_milliseconds_per_pair": per_pair, "decoded_per_frame": decoded_frames(dataset), "ratios": ratios,
        "overlap": overlap(dataset, options.rounds), "goals": GOALS,
    }  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=60, help="of each clip")
    parser.add_argument("--side", type=int, default=240, help="of a stored frame, in pixels")
    parser.add_argument("--reference", type=Path, help="the `laq` folder of a checkout of the public code")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(run(Path(folder), options), options.out)


if __name__ == "__main__":
    main()
