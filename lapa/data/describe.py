"""What a dataset holds, as plain data: `lapactl data show`."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lapa.config.conventions import Conventions
from lapa.data.dataset import ActionStatistics, Dataset


def describe_dataset(dataset: Dataset, *, instructions: int = 10) -> dict[str, Any]:
    """Counts, sizes, the commonest instructions, and statistics by action dimension."""
    info, index = dataset.info, dataset.index
    seconds = sum(
        frames / fps for frames, fps in zip(index["num_frames"].to_pylist(), index["fps"].to_pylist(), strict=True)
    )
    counted = Counter(index["instruction"].to_pylist())
    stored = (pc.sum(index["video_bytes"]).as_py() or 0) + (pc.sum(index["arrays_bytes"]).as_py() or 0)
    return {
        "url": dataset.url,
        "revision": info.revision,
        "episodes": info.num_episodes,
        "frames": info.num_frames,
        "hours": round(seconds / 3600, 4),
        "fps": list(info.fps),
        "image_size": info.image_size,
        "shards": info.num_shards,
        "bytes": stored,
        "frames_per_episode": pc.min_max(index["num_frames"]).as_py(),
        "motion": _motion(index["motion"]),
        "tags": dict(sorted(Counter(tag for tags in index["tags"].to_pylist() for tag in tags or ()).items())),
        "embodiments": info.embodiments,
        "licences": info.licences,
        "distinct_instructions": info.instructions,
        "instructions": dict(counted.most_common(instructions)),
        "control_hz": info.conventions.control_hz,
        "cameras": list(info.conventions.cameras),
        "actions": _with_meanings(_by_dimension(info.actions, info.action_names), info.conventions),
        "proprioception": _by_dimension(info.proprioception, ()),
    }


def _with_meanings(rows: list[dict[str, Any]], conventions: Conventions) -> list[dict[str, Any]]:
    if len(conventions.actions) != len(rows):
        return rows
    return [row | {"meaning": known.in_words} for row, known in zip(rows, conventions.actions, strict=True)]


def _motion(column: pa.ChunkedArray) -> dict[str, float]:
    """Mean change from one frame to the next over the episodes, of 255 levels; empty where it was not measured."""
    known = column.drop_null()
    if not len(known):
        return {}
    low, middle, high = pc.quantile(known, q=[0.1, 0.5, 0.9]).to_pylist()
    return {"p10": round(low, 3), "median": round(middle, 3), "p90": round(high, 3)}


def _by_dimension(statistics: ActionStatistics | None, names: tuple[str, ...]) -> list[dict[str, Any]]:
    if statistics is None:
        return []
    columns = statistics.model_dump(exclude={"bins"})
    dims = len(statistics.mean)
    labels = names if len(names) == dims else tuple(str(number) for number in range(dims))
    return [
        {"name": label} | {column: values[number] for column, values in columns.items()}
        for number, label in enumerate(labels)
    ]
