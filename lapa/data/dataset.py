"""A dataset as `ingest` leaves it: shards, one row per episode in the index, and `dataset.json` written last."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from lapa import files
from lapa.config.reads import ReadConfig
from lapa.data.parquet import read_parquet
from lapa.errors import DataError, DatasetNotFound

SCHEMA_VERSION = 1
INFO_FILE = "dataset.json"
INDEX_FILE = "index.parquet"
REPORT_FILE = "ingest-report.json"

INDEX_SCHEMA = pa.schema(
    [
        ("episode", pa.string()),
        ("shard", pa.int32()),
        ("num_frames", pa.int32()),
        ("fps", pa.float64()),
        ("instruction", pa.string()),
        ("embodiment", pa.string()),
        ("licence", pa.string()),
        ("source", pa.string()),
        ("has_actions", pa.bool_()),
        ("video_offset", pa.int64()),
        ("video_bytes", pa.int64()),
        ("arrays_offset", pa.int64()),
        ("arrays_bytes", pa.int64()),
    ]
)
"""Offsets and sizes are byte ranges inside the episode's shard; `arrays_bytes` is 0 where there are no arrays."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ActionStatistics(_Record):
    """One number per dimension, in the robot's own units, over every timestep of the dataset."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    """1st percentile."""
    q99: tuple[float, ...]
    """99th percentile."""


class DatasetInfo(_Record):
    """`dataset.json`: what is inside, and the revision that names this very content."""

    schema_version: int = SCHEMA_VERSION
    revision: str
    """Hash over the content of all episodes, in order; independent of how the ingest was run."""
    num_episodes: int
    num_frames: int
    num_shards: int
    image_size: int
    """Frames are squares of this side, in pixels."""
    resize: Literal["crop", "squash"] = "crop"
    """How the source's frames became squares; a policy's camera frames are treated alike."""
    fps: tuple[float, ...]
    """Distinct frame rates, ascending."""
    embodiments: dict[str, int]
    """Episodes per embodiment."""
    licences: dict[str, int]
    """Episodes per licence."""
    instructions: int
    """Distinct instructions that are not empty."""
    has_actions: bool
    """Whether every episode has actions."""
    action_dims: int
    action_names: tuple[str, ...]
    proprioception_dims: int
    frame_mean: tuple[float, float, float]
    """Per RGB channel, with pixels in [0, 1]."""
    frame_std: tuple[float, float, float]
    actions: ActionStatistics | None = None
    proprioception: ActionStatistics | None = None
    source: dict[str, Any]
    """The source settings that were ingested, as plain data."""


def shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.tar"


def stored_shards(url: str) -> dict[str, int]:
    """Bytes of each shard of the dataset at ``url`` that is there, by name."""
    return files.list_sizes(files.join(url, "shards"))


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Only the index is in memory; videos and arrays stay in the shards."""

    url: str
    info: DatasetInfo
    index: pa.Table
    reads: ReadConfig = field(default_factory=ReadConfig)
    """How bytes come from the shards."""

    @classmethod
    def open(cls, url: str, *, reads: ReadConfig | None = None) -> Self:
        """Raises DatasetNotFound where there is no complete dataset, DataError for one of another schema."""
        info_url = files.join(url, INFO_FILE)
        if not files.exists(info_url):
            raise DatasetNotFound(
                f"{url} holds no {INFO_FILE}, so no complete dataset. Check the URL, or run the ingest stage again: "
                "it continues where it stopped."
            )
        info = _read_info(info_url)
        index = _read_index(files.join(url, INDEX_FILE))
        if index.num_rows != info.num_episodes:
            raise DataError(
                f"{url} has {index.num_rows} rows in {INDEX_FILE} but {INFO_FILE} counts {info.num_episodes} episodes. "
                f"Delete {INDEX_FILE} and run the ingest stage again."
            )
        return cls(url=url, info=info, index=index, reads=reads or ReadConfig())

    @property
    def revision(self) -> str:
        return self.info.revision

    def shard_url(self, shard: int) -> str:
        return files.join(self.url, "shards", shard_name(shard))

    def __len__(self) -> int:
        return self.info.num_episodes


def _read_index(url: str) -> pa.Table:
    try:
        return read_parquet(pa.BufferReader(files.read_bytes(url)))
    except FileNotFoundError as error:
        raise DataError(f"{url} is missing. Run the ingest stage again: it writes the index anew.") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{url} is damaged: {error}. Delete it and run the ingest stage again.") from error


def _read_info(url: str) -> DatasetInfo:
    try:
        value = files.read_json(url)
    except ValueError as error:
        raise DataError(f"{url} is not JSON: {error}. Delete it and run the ingest stage again.") from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{url} has schema_version {version}; this version of lapa reads {SCHEMA_VERSION}. Ingest the source again."
        )
    try:
        return DatasetInfo.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{url} is damaged: {error}. Delete it and run the ingest stage again.") from error
