"""Statistics in LeRobot's words: min, max, mean, std, count and quantiles, per episode and for the dataset."""

from typing import Any

import numpy as np
import pyarrow as pa

from lapa.types.episodes import Frame

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


class PictureHistogram:
    """How often each of the 256 values occurs in each RGB channel."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.frames = 0

    def add(self, frame: Frame) -> None:
        for channel in range(3):
            self.counts[channel] += np.bincount(frame[..., channel].ravel(), minlength=256)
        self.frames += 1


def describe_rows(column: pa.ChunkedArray) -> dict[str, Any]:
    """Statistics of one column of one episode, per dimension."""
    values = column.combine_chunks()
    flat = values.flatten() if pa.types.is_nested(values.type) else values
    numbers = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(values), -1)
    parts = {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(numbers)]),
        **{name: np.quantile(numbers, share, axis=0) for name, share in QUANTILES.items()},
    }
    return {name: part.tolist() for name, part in parts.items()}


def describe_pictures(counted: PictureHistogram) -> dict[str, Any]:
    """Statistics of an episode's pictures with values in [0, 1], each ``3 1 1``; `count` counts frames."""
    levels = np.arange(256) / 255
    share = counted.counts / counted.counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    parts = {
        "min": levels[(counted.counts > 0).argmax(axis=1)],
        "max": levels[255 - (counted.counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ levels**2 - mean**2, 0)),
        **{name: levels[(share.cumsum(axis=1) >= q).argmax(axis=1)] for name, q in QUANTILES.items()},
    }
    return {name: part.reshape(3, 1, 1).tolist() for name, part in parts.items()} | {"count": [counted.frames]}


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics of the dataset from those of its episodes; quantiles by weight, as lerobot merges them."""
    counts = np.array([part["count"][0] for part in parts], float)
    arrays = {name: np.array([part[name] for part in parts], float) for name in parts[0] if name != "count"}
    weights = (counts / counts.sum()).reshape(-1, *(1,) * (arrays["mean"].ndim - 1))
    mean = (weights * arrays["mean"]).sum(axis=0)
    variance = (weights * (arrays["std"] ** 2 + (arrays["mean"] - mean) ** 2)).sum(axis=0)
    whole = {
        "min": arrays["min"].min(axis=0),
        "max": arrays["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: (weights * arrays[name]).sum(axis=0) for name in QUANTILES},
    }
    return {name: value.tolist() for name, value in whole.items()} | {"count": [int(counts.sum())]}
