"""LeRobot datasets of any version: which camera and columns, and one episode's rows as an `Episode`."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from lapa.config.conventions import Conventions, DimensionConvention
from lapa.config.data import LeRobotSource
from lapa.data import video
from lapa.data.readers.base import SourceItem, episode_id, load_video, part_id
from lapa.data.readers.images import decode_images
from lapa.data.readers.lerobot_meta import EpisodeTable, LeRobotLayout, VideoSpan, major_version, read_info
from lapa.data.readers.lerobot_statistics import read_statistics, warn_outside
from lapa.data.readers.lerobot_v2 import LeRobotV2Layout
from lapa.data.readers.lerobot_v3 import LeRobotV3Layout
from lapa.data.video import VideoData
from lapa.errors import SourceError
from lapa.types.episodes import Episode, Frame

logger = logging.getLogger(__name__)

TASK_DESCRIPTION = "task_description"
"""Datasets with annotation columns keep other labels ("valid") in the same tasks table; only this one instructs."""


class LeRobotReader:
    """Items as the version's layout cuts them; an episode for each chosen camera."""

    def __init__(self, config: LeRobotSource) -> None:
        self.config = config
        self.info = read_info(config.url)
        self.features: dict[str, Any] = self.info["features"]
        is_v3 = major_version(self.info, config.url) == "v3"
        self.layout: LeRobotLayout = (LeRobotV3Layout if is_v3 else LeRobotV2Layout)(config.url, self.info)
        self.cameras = self._choose_cameras()
        self.action_column = self._choose_column(config.action_column, "action")
        self.proprioception_column = self._choose_column(config.proprioception_column, "observation.state")
        self.instruction_column = config.instruction_column or self._default_instruction_column()
        columns = [column for column in (self.action_column, self.proprioception_column) if column]
        self.statistics = read_statistics(config.url, self.layout.files, columns)

    def conventions(self) -> Conventions:
        """Names, rate and cameras; units and frames are nowhere in the format."""
        names = self._names_of(self.action_column)
        is_named = len(set(names)) == len(names)
        return Conventions(
            actions=tuple(DimensionConvention(name=name) for name in names) if is_named else (),
            control_hz=float(self.info["fps"]),
            cameras=self.cameras,
        )

    def items(self) -> list[SourceItem]:
        return self.layout.items(self.cameras, self.info["fps"])

    def read(self, item: SourceItem) -> Iterator[Episode | SourceError]:
        opened: dict[str, VideoData] = {}  # a file that several episodes share is fetched once
        for found in self.layout.tables(item, self.cameras):
            if isinstance(found, SourceError):
                yield found
                continue
            for camera in self.cameras:
                try:
                    yield self._episode(found, camera, opened)
                except SourceError as error:
                    yield error

    def _episode(self, found: EpisodeTable, camera: str, opened: dict[str, VideoData]) -> Episode:
        name = f"episode_{found.number:06d}"
        is_video = self.features[camera].get("dtype") == "video"
        frames = self._filmed(found, found.spans[camera], opened) if is_video else self._pictured(found, camera)
        actions = _matrix(found.table, self.action_column, found.name)
        proprioception = _matrix(found.table, self.proprioception_column, found.name)
        for column, values in ((self.action_column, actions), (self.proprioception_column, proprioception)):
            warn_outside(self.statistics, column, values, name)
        return Episode(
            id=part_id(episode_id(name), camera) if len(self.cameras) > 1 else episode_id(name),
            frames=frames,
            fps=float(self.info["fps"]),
            instruction=self._instruction(found),
            actions=actions,
            proprioception=proprioception,
            action_names=self._names_of(self.action_column),
            embodiment=self.config.embodiment or str(self.info.get("robot_type") or "unknown"),
            licence=self.config.licence,
            source=self._source_name(found, camera),
        )

    def _filmed(
        self, found: EpisodeTable, span: VideoSpan, opened: dict[str, VideoData]
    ) -> Callable[[], Iterator[Frame]]:
        if span.name not in self.layout.files:
            raise SourceError(
                f"episode {found.number}: {span.name or 'a video'} is declared in meta/ but does not exist. Add it, or "
                "remove the episode."
            )
        rows = found.table.num_rows
        if span.start_seconds is not None:
            start, fps = span.start_seconds, float(self.info["fps"])
            data = self._opened(span.name, opened)
            name = f"episode {found.number} in {span.name}"
            return partial(video.decode_span, data, start_seconds=start, num_frames=rows, fps=fps, name=name)
        declared = video.probe(self._load(span.name), name=span.name).num_frames
        if declared is not None and declared != rows:
            raise SourceError(
                f"{span.name} has {declared} frames but {found.name} has {rows} rows; they must agree for actions to "
                "belong to frames. Export this episode again."
            )
        return partial(self._decode_whole, span.name)

    def _pictured(self, found: EpisodeTable, camera: str) -> partial[Iterator[Frame]]:
        if camera not in found.table.column_names:
            raise SourceError(f"{found.name} has no column {camera!r}, which meta/info.json declares as an image.")
        cells = found.table[camera].to_pylist()
        images = [(cell.get("bytes") if isinstance(cell, dict) else cell) or b"" for cell in cells]
        if not all(isinstance(image, bytes) for image in images):
            raise SourceError(
                f"{found.name}: column {camera!r} holds no embedded images. Export the dataset as videos."
            )
        return partial(decode_images, images, f"episode {found.number} in {found.name}")

    def _decode_whole(self, name: str) -> Iterator[Frame]:
        return video.decode(self._load(name), name=name)

    def _load(self, name: str) -> VideoData:
        return load_video(self.config.url, self.layout.files[name])

    def _opened(self, name: str, opened: dict[str, VideoData]) -> VideoData:
        if name not in opened:
            opened[name] = self._load(name)
        return opened[name]

    def _source_name(self, found: EpisodeTable, camera: str) -> str:
        if self.features[camera].get("dtype") == "image":
            return f"{found.name}#{found.number:06d}"
        span = found.spans[camera]
        return span.name if span.start_seconds is None else f"{span.name}#{found.number:06d}"

    def _choose_cameras(self) -> tuple[str, ...]:
        kinds = {name: feature.get("dtype") for name, feature in self.features.items()}
        videos = [name for name, kind in kinds.items() if kind == "video"]
        images = [name for name, kind in kinds.items() if kind == "image"]
        present = [*self.layout.cameras(videos), *images]
        wanted = self.config.camera
        if wanted is None and present:
            return (present[0],)
        chosen = (wanted,) if isinstance(wanted, str) else tuple(dict.fromkeys(wanted or ()))
        missing = [camera for camera in chosen if camera not in present]
        if chosen and not missing:
            return chosen
        raise SourceError(
            f"{self.config.url} has no video files for camera {', '.join(missing) or '(any)'}; meta/info.json declares "
            f"{[*videos, *images]}, files exist for {present}. Set source.camera to one that exists."
        )

    def _choose_column(self, column: str | None, default: str) -> str | None:
        if column is None or column in self.features:
            return column
        if column != default:
            raise SourceError(
                f"{self.config.url} has no column {column!r}; meta/info.json declares {sorted(self.features)}."
            )
        logger.warning("event=column-missing source=%s column=%s", self.config.url, column)
        return None

    def _default_instruction_column(self) -> str | None:
        annotations = [name for name in self.features if name.startswith("annotation.") and TASK_DESCRIPTION in name]
        return next(iter([*annotations, *(name for name in self.features if name == "task_index")]), None)

    def _instruction(self, found: EpisodeTable) -> str:
        column, table = self.instruction_column, found.table
        if column is not None and column in table.column_names and table.num_rows:
            task = int(np.asarray(table[column][0].as_py()).reshape(-1)[0])
            if task not in self.layout.tasks:
                raise SourceError(f"episode {found.number}: {column} is {task}, which the tasks in meta/ do not list.")
            return str(self.layout.tasks[task])
        return next(iter(found.tasks), "")

    def _names_of(self, column: str | None) -> tuple[str, ...]:
        names = self.features[column].get("names") if column else None
        if isinstance(names, dict):  # {"motors": ["shoulder", …]}
            names = [name for group in names.values() if isinstance(group, list) for name in group]
        return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _matrix(table: pa.Table, column: str | None, name: str) -> np.ndarray | None:
    """Float32 ``t d`` of a column of numbers, lists or fixed-size lists."""
    if column is None:
        return None
    if column not in table.column_names:
        raise SourceError(
            f"{name} has no column {column!r}, which meta/info.json declares; it has {table.column_names}."
        )
    values = table[column].combine_chunks()
    try:
        while pa.types.is_nested(values.type):
            values = values.flatten()
        numbers: np.ndarray = values.to_numpy(zero_copy_only=False).astype(np.float32)
        return numbers.reshape(table.num_rows, -1)
    except (ValueError, pa.ArrowException) as error:
        raise SourceError(f"{name}: column {column!r} does not have the same size in every row: {error}.") from error
