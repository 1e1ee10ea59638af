"""Host memory of the training stream while the dataset grows: what one process holds after the same number of batches.

    python benchmarks/stream_memory.py [--clips 4] [--growth 1,10,100] [--batches 60] [--out FILE]

Each size runs in a process of its own, which says its largest resident memory (`ru_maxrss`) with and without the
stream. Datasets are the same few clips again and again, written as shards by `ingest`; frames are small, so that
making 100 times as many takes minutes.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import parser_of, write
from benchmarks.stream import make_clips, ours
from lapa.config.data import IngestConfig, VideoFolderSource
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest

FRAMES, SIDE = 60, 64


def grown(folder: Path, clips: int, times: int) -> str:
    make_clips(folder / "clips", clips, FRAMES, SIDE)
    originals = sorted((folder / "clips").iterdir())
    for copy in range(1, times):
        for clip in originals:
            shutil.copyfile(clip, clip.with_name(f"copy{copy:04d}_{clip.name}"))
    source = VideoFolderSource(url=str(folder / "clips"))
    ingest(IngestConfig(source=source, image_size=SIDE, episodes_per_shard=8, workers=1), str(folder / "dataset"))
    return str(folder / "dataset")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def look(url: str, batches: int) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(1)
    dataset = Dataset.open(url)
    before = peak_bytes()
    stream = ours(dataset, 0)
    for _ in range(batches):
        next(stream)
    return {"episodes": len(dataset), "before_bytes": before, "peak_bytes": peak_bytes()}


def measured(clips: int, times: int, batches: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        url = grown(Path(folder), clips, times)
        command = [sys.executable, __file__, "--look", url, "--batches", str(batches)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "stream_bytes": found["peak_bytes"] - found["before_bytes"]}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--growth", default="1,10,100", help="times, with commas")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--look", help="only read this dataset, and print")
    options = parser.parse_args()
    if options.look:
        sys.stdout.write(json.dumps(look(options.look, options.batches)) + "\n")
        return
    sizes = [int(times) for times in options.growth.split(",")]
    found = {str(times): measured(options.clips, times, options.batches) for times in sizes}
    first, last = found[str(sizes[0])], found[str(sizes[-1])]
    growth = last["peak_bytes"] / first["peak_bytes"]
    write({"clips": options.clips, "sizes": found, "peak_growth": growth}, options.out)


if __name__ == "__main__":
    main()
