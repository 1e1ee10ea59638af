"""WebDataset tars: neighbouring members whose names agree up to the first dot are one episode."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from typing import IO, Any

import fsspec
import numpy as np

from lapa import files
from lapa.config.sources import WebDatasetSource
from lapa.data import video
from lapa.data.readers.base import SourceItem, episode_id, fingerprint, list_files
from lapa.data.readers.videos import EXTENSIONS
from lapa.errors import SourceError
from lapa.types.episodes import Episode

MEMBER_BYTES = 2 * 2**30
"""A larger member is refused: it would be read into memory."""

Sample = Mapping[str, bytes]
"""Members of one sample, by what follows the first dot of their names."""


class WebDatasetReader:
    """One item per tar, which is read as a stream from its beginning."""

    def __init__(self, config: WebDatasetSource) -> None:
        self.config = config
        listing = list_files(config.url)
        self.files = {
            name: file for name, file in listing.items() if name.lower().endswith((".tar", ".tar.gz", ".tgz"))
        }
        if not self.files:
            raise SourceError(f"{config.url} holds no .tar among its {len(listing)} files. Check the source's url.")
        self.is_one_file = list(listing) == [files.name_of(config.url)]

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(key=name, fingerprint=fingerprint(file), episodes=None)
            for name, file in sorted(self.files.items())
        ]

    def read(self, item: SourceItem) -> Iterator[Episode | SourceError]:
        url = self.config.url if self.is_one_file else files.join(self.config.url, item.key)
        with fsspec.open(url, "rb") as file:
            for key, sample in tar_samples(file, item.key):
                try:
                    yield self._episode(sample, f"{item.key}#{key}")
                except SourceError as error:
                    yield error

    def _episode(self, sample: Sample, name: str) -> Episode:
        ending = next((ending for ending in sample if f".{ending.lower()}" in EXTENSIONS), None)
        if ending is None:
            raise SourceError(f"{name} has no video among its members {sorted(sample)}. Remove it from the source.")
        data = sample[ending]
        described = _described(sample, name)
        actions = _matrix(sample, self.config.action_member, name)
        fps = _fps(described, name) or video.probe(data, name=name).fps
        return Episode(
            id=episode_id(name),
            # Actions belong to the frames as they are; without them, a varying rate is made even.
            frames=partial(video.decode, data, name=name, steady_fps=fps if actions is None else None),
            fps=fps,
            instruction=self._instruction(sample, described),
            actions=actions,
            proprioception=_matrix(sample, self.config.proprioception_member, name),
            action_names=tuple(str(part) for part in described.get("action_names") or ()),
            embodiment=str(described.get("embodiment") or self.config.embodiment),
            licence=str(described.get("licence") or self.config.licence),
            source=name,
        )

    def _instruction(self, sample: Sample, described: Mapping[str, Any]) -> str:
        if self.config.instruction_key in described:
            return str(described[self.config.instruction_key]).strip()
        return sample.get("txt", b"").decode("utf-8", errors="replace").strip()


def tar_samples(file: IO[bytes], name: str) -> Iterator[tuple[str, Sample]]:
    """Raises SourceError where the tar ends early, after the samples before."""
    last = "its beginning"
    try:
        with tarfile.open(fileobj=file, mode="r|*") as tar:
            members = (member for member in tar if member.isfile())
            for key, group in itertools.groupby(members, key=lambda member: _split(member.name)[0]):
                sample = {}
                for member in group:
                    if member.size > MEMBER_BYTES:
                        raise SourceError(
                            f"{name}: {member.name} has {member.size} bytes; at most {MEMBER_BYTES} are read."
                        )
                    content = tar.extractfile(member)
                    assert content is not None, "a regular file"
                    sample[_split(member.name)[1]] = content.read()
                yield key, sample
                last = key
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{name} is damaged after {last}: {error}. Download it again.") from error


def _split(path: str) -> tuple[str, str]:
    """Key and ending of a member, as the webdataset package cuts them."""
    folder, slash, base = path.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}{slash}{stem}", ending


def _described(sample: Sample, name: str) -> Mapping[str, Any]:
    try:
        value = json.loads(sample.get("json", b"{}"))
    except ValueError as error:
        raise SourceError(f"{name}.json is not JSON: {error}. Repair or remove the sample.") from error
    return value if isinstance(value, dict) else {}


def _fps(described: Mapping[str, Any], name: str) -> float | None:
    fps = described.get("fps")
    if fps is None:
        return None
    if not isinstance(fps, int | float) or not 0 < fps < 1e4:
        raise SourceError(f"{name}.json gives fps {fps!r}; it must be a number above 0. Repair or remove the sample.")
    return float(fps)


def _matrix(sample: Sample, member: str | None, name: str) -> np.ndarray | None:
    """Float32 ``t d`` of a `.npy` member; None where there is none."""
    data = sample.get(member or "")
    if data is None:
        return None
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
        if values.ndim not in (1, 2) or values.dtype.kind not in "fiub":
            raise ValueError(f"shape {values.shape} of {values.dtype}")
        return values.astype(np.float32).reshape(len(values), -1)
    except (ValueError, EOFError, OSError, AttributeError) as error:
        raise SourceError(f"{name}.{member} is no array of one row per frame: {error}. Repair the sample.") from error
