"""What a report tells about a dataset."""

import io
import logging
from collections import Counter
from typing import Any

import av
import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs
from jaxtyping import UInt8

from lapa import files
from lapa.data.parquet import read_parquet
from lapa.report.pictures import thumbnail_uri
from lapa.report.summary import DatasetSummary, Thumbnail

logger = logging.getLogger(__name__)

THUMBNAILS = 6
EXAMPLES = 8


def summarize_dataset(role: str, url: str) -> DatasetSummary:
    """Counts, instructions and a few frames of a complete dataset."""
    info: dict[str, Any] = files.read_json(files.join(url, "dataset.json"))
    index = read_parquet(io.BytesIO(files.read_bytes(files.join(url, "index.parquet"))))
    frames, rates = index.column("num_frames").to_numpy(), index.column("fps").to_numpy()
    instructions = Counter(text for text in index.column("instruction").to_pylist() if text)
    return DatasetSummary(
        role=role,
        url=url,
        revision=info["revision"],
        episodes=info["num_episodes"],
        frames=info["num_frames"],
        hours=float((frames / rates).sum() / 3600),
        fps=tuple(info["fps"]),
        image_size=info["image_size"],
        has_actions=info["has_actions"],
        action_names=tuple(info["action_names"]),
        embodiments=info["embodiments"],
        licences=info["licences"],
        num_instructions=info["instructions"],
        instructions=tuple(text for text, _ in instructions.most_common(EXAMPLES)),
        thumbnails=_thumbnails(url, index),
    )


def _thumbnails(url: str, index: pa.Table) -> tuple[Thumbnail, ...]:
    rows = np.unique(np.linspace(0, index.num_rows - 1, min(THUMBNAILS, index.num_rows)).astype(int))
    found = []
    for row in rows:
        record = index.slice(int(row), 1).to_pylist()[0]
        try:
            frame = middle_frame(url, record)
        except Exception as error:  # a report without one thumbnail is better than no report
            logger.warning("no thumbnail episode=%s why=%s", record["episode"], error)
            continue
        found.append(Thumbnail(data_uri=thumbnail_uri(frame), caption=record["instruction"] or record["episode"]))
    return tuple(found)


def middle_frame(url: str, record: dict[str, Any]) -> UInt8[np.ndarray, "h w 3"]:
    """The frame in the middle of an episode, from its byte range in the shard."""
    fs, path = url_to_fs(files.join(url, "shards", f"shard-{record['shard']:05d}.tar"))
    start = record["video_offset"]
    data = fs.cat_file(path, start=start, end=start + record["video_bytes"])
    with av.open(io.BytesIO(data), "r") as video:
        for number, frame in enumerate(video.decode(video=0)):
            if number >= record["num_frames"] // 2:
                return np.asarray(frame.to_ndarray(format="rgb24"))
    raise ValueError(f"{record['episode']} has fewer frames than the index says")
