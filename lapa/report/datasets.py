"""What a report tells about a dataset."""

import logging
from collections import Counter

import numpy as np

from lapa.data.dataset import Dataset
from lapa.data.frames import episode_frames
from lapa.errors import LapaError
from lapa.report.pictures import thumbnail_uri
from lapa.report.summary import DatasetSummary, Thumbnail

logger = logging.getLogger(__name__)

THUMBNAILS = 6
EXAMPLES = 8


def summarize_dataset(role: str, url: str) -> DatasetSummary:
    """Counts, instructions and a few frames. DatasetNotFound or DataError where it cannot be read."""
    dataset = Dataset.open(url)
    info, index = dataset.info, dataset.index
    frames, rates = index.column("num_frames").to_numpy(), index.column("fps").to_numpy()
    instructions = Counter(text for text in index.column("instruction").to_pylist() if text)
    return DatasetSummary(
        role=role,
        url=url,
        revision=info.revision,
        episodes=info.num_episodes,
        frames=info.num_frames,
        hours=float((frames / rates).sum() / 3600),
        fps=info.fps,
        image_size=info.image_size,
        has_actions=info.has_actions,
        action_names=info.action_names,
        embodiments=info.embodiments,
        licences=info.licences,
        num_instructions=info.instructions,
        instructions=tuple(text for text, _ in instructions.most_common(EXAMPLES)),
        thumbnails=_thumbnails(dataset),
    )


def _thumbnails(dataset: Dataset) -> tuple[Thumbnail, ...]:
    """From the middle of episodes that are spread evenly; a damaged one goes without."""
    found = []
    for row in np.unique(np.linspace(0, len(dataset) - 1, min(THUMBNAILS, len(dataset))).astype(int)).tolist():
        episode, instruction = (dataset.index[name][row].as_py() for name in ("episode", "instruction"))
        try:
            frames = episode_frames(dataset, row)
        except LapaError as error:
            logger.warning("event=no-thumbnail episode=%s why=%s", episode, error)
            continue
        found.append(Thumbnail(data_uri=thumbnail_uri(frames[len(frames) // 2]), caption=instruction or episode))
    return tuple(found)
