"""What is kept of the units of an ingest until all are there: their records and the arrays beside them.

A unit is done when its record exists.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from lapa import files
from lapa.data import shards
from lapa.data.dataset import shard_name
from lapa.data.ingest_peers import CLAIMS_FOLDER
from lapa.data.ingest_report import QualityNote, SourceProblem
from lapa.data.statistics import FrameSums

UNITS_FOLDER = "_units"
QUALITY_FOLDER = "quality"


class UnitRecord(BaseModel):
    """`_units/00000.json`: what the dataset's index and statistics need to know of one shard."""

    fingerprint: str
    shard_bytes: int
    """Size of the shard: one that is gone, or was cut short, is made again."""
    rows: list[dict[str, Any]] = []
    """Columns of the index."""
    content: list[str] = []
    """Hash over everything stored for each episode."""
    dimensions: dict[str, int] = {}
    """Of the actions and the proprioception."""
    action_names: tuple[str, ...] = ()
    frame_sums: FrameSums = FrameSums()
    failed: list[SourceProblem] = []
    skipped: list[SourceProblem] = []
    quality: list[QualityNote] = []
    """What was found wrong with clips, stored or dropped."""
    hashes: list[str] = []
    """Perceptual hash of each episode, as hexadecimal text; none where duplicates are not looked for."""


def made_record(output_url: str, number: int) -> UnitRecord:
    """The record of a unit that is there. Raises FileNotFoundError, or ValueError for a damaged one."""
    return UnitRecord.model_validate(files.read_json(record_url(output_url, number)))


def is_made(output_url: str, number: int, fingerprint: str, stored: Mapping[str, int]) -> bool:
    """Whether a unit was made from the same items with the same settings, and its shard is whole."""
    if shard_name(number) not in stored:
        return False
    try:
        record = made_record(output_url, number)
    except (FileNotFoundError, ValueError):
        return False
    return stored[shard_name(number)] == record.shard_bytes and record.fingerprint == fingerprint


def read_actions(output_url: str, number: int) -> dict[str, np.ndarray]:
    """`actions` and `proprioception` of all of a unit's episodes, concatenated: ``t d``."""
    url = record_url(output_url, number, "npz")
    return shards.unpack_arrays(files.read_bytes(url)) if files.exists(url) else {}


def read_twin_thumbs(output_url: str, number: int) -> np.ndarray:
    """Of each of the unit's episodes, what suspected duplicates are compared by: uint8 ``n 4 y x``."""
    return shards.unpack_arrays(files.read_bytes(record_url(output_url, number, "twins.npz")))["thumbs"]


def remove_stale(output_url: str, units: int) -> None:
    """Remove shards and records of units that the source no longer gives, and claims on units."""
    files.remove(files.join(output_url, CLAIMS_FOLDER))
    kept = {shard_name(number) for number in range(units)}
    kept |= {f"{number:05d}.{ending}" for number in range(units) for ending in ("json", "npz", "twins.npz")}
    for folder in ("shards", UNITS_FOLDER):
        for name in files.list_names(files.join(output_url, folder)):
            if name not in kept:
                files.remove(files.join(output_url, folder, name))


def record_url(output_url: str, number: int, ending: str = "json") -> str:
    """Where a unit's record is, or the arrays beside it, by their ending."""
    return files.join(output_url, UNITS_FOLDER, f"{number:05d}.{ending}")
