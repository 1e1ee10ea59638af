"""The columns of one shard's labels: episode, timestep, codes, vectors; one Arrow row per labelled timestep.

t labelled timesteps, n codes per frame pair, d dimensions of one latent vector.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def label_table(
    episodes: Sequence[str], codes: Sequence[np.ndarray], vectors: Sequence[np.ndarray], *, codes_per_pair: int
) -> pa.Table:
    """Ids, codes ``t n`` and vectors ``t n d`` of a shard's episodes as one table.

    A shard may hold no episode: ingest skipped all of its videos.
    """
    counts = [len(part) for part in codes]
    together = np.concatenate([np.zeros((0, codes_per_pair), np.int64), *codes])
    # An unlabelled episode does not know the width of its vectors; a shard of only such episodes takes any.
    labelled = [part.reshape(count, -1) for part, count in zip(vectors, counts, strict=True) if count]
    flat = np.concatenate(labelled) if labelled else np.zeros((0, codes_per_pair))
    smallest = np.int8 if together.max(initial=0) < 128 else np.int16
    names = [episode for episode, count in zip(episodes, counts, strict=True) for _ in range(count)]
    return pa.table(
        {
            "episode": pa.array(names, pa.string()),
            "timestep": pa.array([step for count in counts for step in range(count)], pa.int32()),
            "codes": _fixed_lists(together.astype(smallest)),
            "vectors": _fixed_lists(flat.astype(np.float16)),
        }
    )


def label_values(table: pa.Table) -> list[pa.Array]:
    """The numbers of a table, flat."""
    lists = [table[name].combine_chunks().flatten() for name in ("codes", "vectors")]
    return [table["timestep"].combine_chunks(), *lists]


def _fixed_lists(values: np.ndarray) -> pa.FixedSizeListArray:
    kind = pa.list_(pa.from_numpy_dtype(values.dtype), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
