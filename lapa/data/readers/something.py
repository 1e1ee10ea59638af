"""Something-Something v2: a folder of `<id>.webm`, and label files whose templates name their objects apart."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from lapa import files
from lapa.config.sources import SomethingSomethingSource
from lapa.data.readers.base import SourceItem, fingerprint, list_files
from lapa.data.readers.videos import EXTENSIONS, whole_video
from lapa.errors import SourceError
from lapa.types.episodes import Episode

PLACEHOLDER = re.compile(r"\[[^\]]*\]")
"""`[something]`, `[one of many similar things on the table]`."""


class SomethingSomethingReader:
    """One item per labelled video; videos that the label file leaves out belong to another split."""

    def __init__(self, config: SomethingSomethingSource) -> None:
        self.config = config
        listing = list_files(config.url)
        self.videos = {
            PurePosixPath(name).stem: file
            for name, file in listing.items()
            if PurePosixPath(name).suffix.lower() in EXTENSIONS
        }
        if not self.videos:
            raise SourceError(f"{config.url} holds no video among its {len(listing)} files. Check the source's url.")
        self.instructions = _read_labels(config.labels)

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(key=number, fingerprint=fingerprint(self.videos.get(number), text))
            for number, text in sorted(self.instructions.items())
        ]

    def read(self, item: SourceItem) -> Iterator[Episode]:
        if item.key not in self.videos:
            raise SourceError(
                f"{self.config.labels} labels {item.key}, and there is no video of this name below {self.config.url}. "
                "Download it, or remove its label."
            )
        yield whole_video(self.config, self.videos[item.key], self.instructions[item.key])


def _read_labels(url: str) -> dict[str, str]:
    """Instruction by video."""
    try:
        rows = json.loads(files.read_bytes(url))
        return {str(row["id"]): _instruction(row) for row in rows}
    except FileNotFoundError as error:
        raise SourceError(f"the label file {url} does not exist. Set source.labels.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{url} is no list of labels with `id`, `template` and `placeholders`: {error!r}. Download it again."
        ) from error


def _instruction(row: Mapping[str, Any]) -> str:
    """The template with its objects; where their numbers differ, the label, and empty in a split without labels."""
    template, objects = str(row.get("template", "")), [str(name) for name in row.get("placeholders") or ()]
    if template and len(PLACEHOLDER.findall(template)) == len(objects):
        remaining = iter(objects)
        return PLACEHOLDER.sub(lambda _: next(remaining), template).strip()
    return str(row.get("label") or re.sub(r"[\[\]]", "", template)).strip()
