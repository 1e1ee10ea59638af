"""Out of our shards into formats that others read, so that nobody's data is locked in: `lapactl data convert`."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from lapa import files
from lapa.data.convert_lerobot import LeRobotWriter
from lapa.data.convert_output import OutputFolder, stored_episodes
from lapa.data.convert_webdataset import WebDatasetWriter
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError

ConvertTarget = Literal["lerobot-v3", "webdataset"]

Progress = Callable[[int, int, str], None]
"""Episodes done, episodes in all, and the episode."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written."""

    url: str
    format: ConvertTarget
    episodes: int
    frames: int
    files: int
    bytes: int
    not_kept: tuple[str, ...]
    """What the format has no place for."""


def convert(dataset: Dataset, target: ConvertTarget, url: str, *, progress: Progress | None = None) -> Conversion:
    """Write all episodes to `url`, with their videos as they are stored.

    Raises ConfigError where there is something already, or the format cannot hold the dataset.
    """
    if files.list_names(url):
        raise ConfigError(f"{url} is not empty. Choose another place for the converted dataset, or remove it.")
    with tempfile.TemporaryDirectory(prefix="lapa-convert-") as local:
        folder = OutputFolder(Path(local), url)
        with _writer(dataset, target, folder) as writer:
            for number, episode in enumerate(stored_episodes(dataset), start=1):
                writer.add(episode)
                if progress is not None:
                    progress(number, len(dataset), episode.id)
            writer.finish()
    return Conversion(
        url=url,
        format=target,
        episodes=len(dataset),
        frames=dataset.info.num_frames,
        files=folder.files,
        bytes=folder.bytes,
        not_kept=writer.not_kept,
    )


def _writer(dataset: Dataset, target: ConvertTarget, folder: OutputFolder) -> LeRobotWriter | WebDatasetWriter:
    match target:
        case "lerobot-v3":
            return LeRobotWriter(dataset, folder)
        case "webdataset":
            return WebDatasetWriter(dataset, folder)
        case _:
            assert_never(target)
