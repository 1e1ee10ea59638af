"""One process that labels a dataset, as a rank of some job does.

Usage: label_worker.py DATASET LABELS LOG RANK WORLD_SIZE LEASE_SECONDS [--freeze | --die | --wait-for FILE]; it appends
each shard to LOG when it has labelled it. The options say what happens in the middle of its first shard.
"""

import argparse
import os
import signal
import time
from pathlib import Path

import numpy as np

from lapa.data.dataset import Dataset
from lapa.data.label_claims import Claims, shards_to_label
from lapa.data.labels import EpisodeLabels, LabelStamp, LabelWriter


def labels_of(dataset: Dataset, shard: int) -> list[EpisodeLabels]:
    rows = np.flatnonzero(dataset.index["shard"].to_numpy() == shard).tolist()
    names = dataset.index["episode"].to_pylist()
    counts = [dataset.index["num_frames"][row].as_py() - 5 for row in rows]
    return [
        EpisodeLabels(episode=names[row], codes=np.full((count, 4), row % 8), vectors=np.full((count, 4, 2), row))
        for row, count in zip(rows, counts, strict=True)
    ]


def wait(seconds: float) -> None:
    """For shards that others are at: with a lease that no test outlasts, a quarter of it would be minutes."""
    time.sleep(min(seconds, 0.1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("labels")
    parser.add_argument("log", type=Path)
    parser.add_argument("rank", type=int)
    parser.add_argument("world_size", type=int)
    parser.add_argument("lease_seconds", type=float)
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--die", action="store_true")
    parser.add_argument("--wait-for", type=Path)
    args = parser.parse_args()
    dataset = Dataset.open(args.dataset)
    stamp = LabelStamp(
        dataset_revision=dataset.revision, labeller_digest="abc", labeller_kind="latent-action", window_seconds=0.5,
        image_size=48, codes_per_pair=4, codebook_size=8,
    )  # fmt: skip
    writer = LabelWriter(args.labels, stamp)
    with Claims(args.labels, lease_seconds=args.lease_seconds) as claims:
        shards = shards_to_label(writer, dataset, claims, rank=args.rank, world_size=args.world_size, wait=wait)
        for number, (shard, _) in enumerate(shards):
            if number == 0:
                args.log.with_suffix(".started").touch()
                if args.freeze or args.die:
                    os.kill(os.getpid(), signal.SIGSTOP if args.freeze else signal.SIGKILL)
                while args.wait_for and not args.wait_for.exists():
                    time.sleep(0.05)
            writer.write_shard(shard, labels_of(dataset, shard))
            with args.log.open("a") as log:
                log.write(f"{shard}\n")
    if args.rank == 0:
        writer.finish(dataset)


main()
