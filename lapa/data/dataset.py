"""A dataset as `ingest` leaves it: shards, one row per episode in the index, and `dataset.json` written last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from lapa import files
from lapa.config.conventions import Conventions
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
        ("motion", pa.float32()),
        ("tags", pa.list_(pa.string())),
        ("twin", pa.string()),
    ]
)
"""Offsets and sizes are byte ranges inside the episode's shard; `arrays_bytes` is 0 where there are no arrays.

`motion` is the mean change from one frame to the next, in grey levels of a thumbnail. `tags` says what was found wrong
with an episode (`lapa/config/quality.py`), `twin` names the recording that its own one nearly repeats. All three are
null where nothing was looked for.
"""


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
    bins: tuple[tuple[float, ...], ...] = ()
    """Ascending edges of bins of equal frequency, of each dimension."""


class Member(_Record):
    """One dataset of a mixture, as it was when the mixture was made."""

    name: str
    url: str
    revision: str
    share: float
    """Of the samples that training draws; the shares of all members add up to 1."""
    num_episodes: int
    window_seconds: float | None = None
    """Of this member's pairs, where it differs from what the others have."""
    fps: float | None = None
    """Rate that samples begin at, where that is less than the episodes' own."""


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
    conventions: Conventions = Conventions()
    """What the numbers mean, as far as that is known."""
    members: tuple[Member, ...] = ()
    """Of a mixture, whose shards and index are those of its members, end to end."""
    twins: dict[str, str] | None = None
    """Of a mixture: each `member/recording` that nearly repeats one of another member, and that one, whose hash decides
    for both. None where nobody looked."""


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
    shard_urls: tuple[str, ...] = ()
    """Of a mixture: where each shard lies."""

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
        if info.members:
            members = [cls._member(member, url) for member in info.members]
            index, shard_urls = joined(members)
            return cls(url=url, info=info, index=index, reads=reads or ReadConfig(), shard_urls=shard_urls)
        index = _read_index(files.join(url, INDEX_FILE))
        if index.num_rows != info.num_episodes:
            raise DataError(
                f"{url} has {index.num_rows} rows in {INDEX_FILE} but {INFO_FILE} counts {info.num_episodes} episodes. "
                f"Delete {INDEX_FILE} and run the ingest stage again."
            )
        return cls(url=url, info=info, index=index, reads=reads or ReadConfig())

    @classmethod
    def _member(cls, member: Member, url: str) -> Self:
        dataset = cls.open(member.url)
        if dataset.revision != member.revision:
            raise DataError(
                f"{member.url} was ingested again since the mixture {url} was made with it as '{member.name}'. Run the "
                "ingest stage again: it mixes anew."
            )
        return dataset

    @property
    def revision(self) -> str:
        return self.info.revision

    def shard_url(self, shard: int) -> str:
        if self.shard_urls:
            return self.shard_urls[shard]
        return files.join(self.url, "shards", shard_name(shard))

    def __len__(self) -> int:
        return self.info.num_episodes


def joined(members: Sequence[Dataset]) -> tuple[pa.Table, tuple[str, ...]]:
    """One index of all members' episodes, shards counted through, and where each shard lies."""
    tables: list[pa.Table] = []
    urls: list[str] = []
    place = INDEX_SCHEMA.get_field_index("shard")
    for member in members:
        shards = pc.add(member.index["shard"], pa.scalar(len(urls), pa.int32()))
        tables.append(member.index.set_column(place, INDEX_SCHEMA.field("shard"), shards))
        urls += [member.shard_url(shard) for shard in range(member.info.num_shards)]
    return pa.concat_tables(tables).combine_chunks(), tuple(urls)


def _read_index(url: str) -> pa.Table:
    try:
        return _with_all_columns(read_parquet(pa.BufferReader(files.read_bytes(url))))
    except FileNotFoundError as error:
        raise DataError(f"{url} is missing. Run the ingest stage again: it writes the index anew.") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{url} is damaged: {error}. Delete it and run the ingest stage again.") from error


def _with_all_columns(index: pa.Table) -> pa.Table:
    """Older datasets say less."""
    for field_ in INDEX_SCHEMA:
        if field_.name not in index.column_names:
            index = index.append_column(field_, pa.nulls(index.num_rows, field_.type))
    return index


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
