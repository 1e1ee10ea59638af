"""How labels lie on disk: a stamp that says what made them, in `labels.json` and in the footer of each shard's file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict, ValidationError

from lapa import files
from lapa.errors import DataError, LabelMismatch

SCHEMA_VERSION = 1
MANIFEST_FILE = "labels.json"
FOOTER_KEY = b"lapa"
"""Of the footer, in the schema metadata of a shard's file."""

LabellerKind = Literal["latent-action", "inverse-dynamics"]


class LabelStamp(BaseModel):
    """What made the labels, and from what: training refuses labels whose stamp does not fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_revision: str
    labeller_digest: str
    """Digest of the model that named the changes."""
    labeller_kind: LabellerKind
    """`latent-action` labels hold codes and vectors; `inverse-dynamics` labels hold actions."""
    window_seconds: float
    image_size: int
    """Side of the frames the labeller saw, in pixels."""
    codes_per_pair: int
    """0, as is `codebook_size`, where the labels are actions."""
    codebook_size: int
    action_names: tuple[str, ...] = ()
    """Dimensions of the actions; none where the labels are latent actions."""

    def as_json(self) -> str:
        """As labels carry it: what only labels of actions say leaves the bytes and digests of others as they were."""
        return self.model_dump_json(exclude_defaults=True)


class Footer(BaseModel):
    """Travels in the schema metadata of each shard's file."""

    stamp: LabelStamp
    episodes: dict[str, int]
    """Labelled timesteps of each episode, in shard order."""
    digest: str
    """Hash of the labels."""


class Manifest(BaseModel):
    """`labels.json`."""

    schema_version: int
    stamp: LabelStamp
    digest: str
    """Hash of the stamp and of all shards' labels."""
    first_rows: list[int]
    """First row of each shard in the dataset's index."""


def file_name(shard: int) -> str:
    """Of a shard's labels, inside their folder."""
    return f"shard-{shard:05d}.parquet"


def read_manifest(url: str) -> Manifest:
    """Raises DataError for a damaged one, or one of another schema."""
    try:
        value = files.read_json(url)
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise DataError(
                f"{url} has label schema_version {version}; this version of lapa reads {SCHEMA_VERSION}. "
                "Delete it and run the label stage again."
            )
        return Manifest.model_validate(value)
    except ValueError as error:  # neither JSON nor, being a ValidationError, a manifest
        raise DataError(
            f"{url} is damaged: {error}. Delete it and run the label stage again: labels that are whole are kept."
        ) from error


@contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """A shard's file; DataError, with the remedy, for whatever goes wrong while it is read."""
    fs, path = url_to_fs(url)
    try:
        with fs.open(path, "rb") as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{url} cannot be read: {error}. Delete it and run the label stage again.") from error


def read_footer(url: str) -> Footer:
    """Only the end of the file is read."""
    with opened(url) as file:
        return footer_in(pq.read_schema(file).metadata, url)


def footer_in(metadata: dict[bytes, bytes] | None, url: str) -> Footer:
    """The stamp of a file that has been opened; DataError where it has none."""
    try:
        return Footer.model_validate_json((metadata or {})[FOOTER_KEY])
    except (KeyError, ValidationError) as error:
        raise DataError(f"{url} carries no valid label stamp. Delete it and run the label stage again.") from error


def refuse_difference(found: LabelStamp, wanted: LabelStamp, url: str) -> None:
    """Raises LabelMismatch, naming each field that differs."""
    differences = [
        f"{name} is {getattr(found, name)} but this run has {getattr(wanted, name)}"
        for name in LabelStamp.model_fields
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differences:
        raise LabelMismatch(
            f"labels at {url} do not fit: {'; '.join(differences)}. "
            "Run the label stage for this run, or point the run at the dataset and model they were made from."
        )
