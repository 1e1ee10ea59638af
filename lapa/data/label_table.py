"""The columns of one shard's labels: episode, timestep, and codes with vectors, or actions; one row per timestep.

t labelled timesteps, n codes per frame pair, d dimensions of one latent vector, a action dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int


@dataclass(frozen=True, kw_only=True)
class EpisodeLabels:
    """Latent actions of one episode: entry t names the change from timestep t to t + window."""

    episode: str
    """Id of the episode."""
    codes: Int[np.ndarray, "t n"]
    vectors: Float[np.ndarray, "t n d"]
    """Latents before quantization; stored as float16."""

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, kw_only=True)
class EpisodeActions:
    """Actions that an inverse-dynamics model sees in one episode: entry t is the mean from t to t + window."""

    episode: str
    """Id of the episode."""
    actions: Float[np.ndarray, "t a"]
    """In the robot's units; stored as float32."""

    def __len__(self) -> int:
        return len(self.actions)


AnyLabels = EpisodeLabels | EpisodeActions


def label_table(episodes: Sequence[AnyLabels], columns: dict[str, pa.Array]) -> pa.Table:
    """Ids and timesteps of a shard's episodes beside the columns of their labels.

    A shard may hold no episode: ingest skipped all of its videos.
    """
    return pa.table(
        {
            "episode": pa.array([labels.episode for labels in episodes for _ in range(len(labels))], pa.string()),
            "timestep": pa.array([step for labels in episodes for step in range(len(labels))], pa.int32()),
            **columns,
        }
    )


def latent_columns(episodes: Sequence[EpisodeLabels], *, codes_per_pair: int) -> dict[str, pa.Array]:
    together = np.concatenate([np.zeros((0, codes_per_pair), np.int64), *(labels.codes for labels in episodes)])
    # An unlabelled episode does not know the width of its vectors; a shard of only such episodes takes any.
    labelled = [labels.vectors.reshape(len(labels), -1) for labels in episodes if len(labels)]
    flat = np.concatenate(labelled) if labelled else np.zeros((0, codes_per_pair))
    smallest = np.int8 if together.max(initial=0) < 128 else np.int16
    return {"codes": _fixed_lists(together.astype(smallest)), "vectors": _fixed_lists(flat.astype(np.float16))}


def action_columns(episodes: Sequence[EpisodeActions], *, dims: int) -> dict[str, pa.Array]:
    together = np.concatenate([np.zeros((0, dims), np.float32), *(labels.actions for labels in episodes)])
    return {"actions": _fixed_lists(together.astype(np.float32))}


def label_values(table: pa.Table) -> list[pa.Array]:
    """The numbers of a table, flat."""
    lists = [table[name].combine_chunks().flatten() for name in table.column_names[2:]]
    return [table["timestep"].combine_chunks(), *lists]


def _fixed_lists(values: np.ndarray) -> pa.FixedSizeListArray:
    kind = pa.list_(pa.from_numpy_dtype(values.dtype), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
