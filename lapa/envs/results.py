"""What happened in the episodes of an evaluation, and the rates that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from lapa.envs.statistics import wilson_interval


@dataclass(frozen=True, kw_only=True)
class EpisodeResults:
    """What happened in `n` episodes; two policies with equal `seeds` began in the same states."""

    seeds: tuple[int, ...]
    kinds: tuple[str, ...]
    splits: tuple[str | None, ...]
    """What the robot's data held of each task; None where nothing was held out."""
    instructions: tuple[str, ...]
    success: Bool[np.ndarray, " n"]
    steps: Int64[np.ndarray, " n"]
    """Timesteps until success or the limit."""
    videos: Mapping[int, UInt8[np.ndarray, "t h w 3"]] = field(default_factory=dict)
    """Frames of the episodes that were filmed, by number."""

    @property
    def success_rate(self) -> float:
        return float(self.success.mean())

    def summary(self, confidence: float = 0.95) -> dict[str, Any]:
        """Rates with Wilson intervals, over all episodes, per task kind, per split and per both, and every
        episode's outcome."""
        splits = tuple(split or "" for split in self.splits)
        per_split = self._grouped(splits, confidence)
        per_both = {
            split: self._grouped(self.kinds, confidence, within=np.array(splits) == split) for split in per_split
        }
        return {
            **_rate(self.success, self.steps, confidence),
            "confidence": confidence,
            "kinds": self._grouped(self.kinds, confidence),
            "splits": {split: {**rate, "kinds": per_both[split]} for split, rate in per_split.items()},
            "outcomes": [self._outcome(index) for index in range(len(self.seeds))],
        }

    def _grouped(
        self, names: Sequence[str], confidence: float, within: Bool[np.ndarray, " n"] | None = None
    ) -> dict[str, Any]:
        """Rates of the episodes that bear each name, names in their order of appearance."""
        chosen = np.ones(len(names), dtype=bool) if within is None else within
        named = np.array(names)
        groups = {name: chosen & (named == name) for name in dict.fromkeys(names) if name}
        return {
            name: _rate(self.success[group], self.steps[group], confidence)
            for name, group in groups.items()
            if group.any()
        }

    def _outcome(self, index: int) -> dict[str, Any]:
        return {
            "seed": self.seeds[index],
            "kind": self.kinds[index],
            "split": self.splits[index],
            "instruction": self.instructions[index],
            "success": bool(self.success[index]),
            "steps": int(self.steps[index]),
        }


def joined(parts: Sequence[EpisodeResults]) -> EpisodeResults:
    """The results of consecutive episodes as one; the videos are numbered over all of them already."""
    return EpisodeResults(
        seeds=tuple(seed for part in parts for seed in part.seeds),
        kinds=tuple(kind for part in parts for kind in part.kinds),
        splits=tuple(split for part in parts for split in part.splits),
        instructions=tuple(instruction for part in parts for instruction in part.instructions),
        success=np.concatenate([part.success for part in parts]),
        steps=np.concatenate([part.steps for part in parts]),
        videos={index: video for part in parts for index, video in part.videos.items()},
    )


def _rate(success: np.ndarray, steps: np.ndarray, confidence: float) -> dict[str, Any]:
    interval = wilson_interval(int(success.sum()), len(success), confidence)
    return {
        "episodes": len(success),
        "successes": int(success.sum()),
        "success_rate": float(success.mean()),
        "low": interval.low,
        "high": interval.high,
        "mean_steps": float(steps.mean()),
    }
