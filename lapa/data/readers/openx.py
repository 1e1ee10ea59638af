"""The table of Open X-Embodiment datasets: what each one's features are called, and what its actions mean."""

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from lapa import files
from lapa.config.base import Config
from lapa.config.conventions import Conventions, DimensionConvention, Mode, ReferenceFrame, Unit
from lapa.config.data import RldsSource
from lapa.errors import ConfigError

TABLE = Path(__file__).with_name("openx.yaml")


class ActionPart(Config):
    """Some columns of one feature."""

    key: str
    take: tuple[int, int] | None = None
    """First column, and one past the last; all when not given."""
    dims: tuple[str, ...] = Field(min_length=1)
    unit: Unit = "unknown"
    mode: Mode = "unknown"
    frame: ReferenceFrame = "unknown"
    open: float | None = None
    closed: float | None = None

    @model_validator(mode="after")
    def _columns_have_names(self) -> "ActionPart":
        if self.take is not None and self.take[1] - self.take[0] != len(self.dims):
            raise ValueError(f"{self.key} takes columns {self.take} and names {len(self.dims)} dimensions")
        return self

    def conventions(self) -> list[DimensionConvention]:
        said = self.model_dump(exclude={"key", "take", "dims"})
        return [DimensionConvention(name=name, **said) for name in self.dims]


class OpenXDataset(Config):
    """One entry of the table."""

    robot: str
    hz: float = Field(gt=0)
    """Steps per second."""
    cameras: dict[str, str] = Field(min_length=1)
    """Feature with the pictures, by the view's role: `primary`, `secondary`, `wrist`."""
    action: tuple[ActionPart, ...] = Field(min_length=1)
    proprioception: tuple[str, ...] = ()
    """Features, joined in this order."""
    instruction: str = "language_instruction"
    instruction_encoding: Literal["text", "code-points"] = "text"
    licence: str = "unknown"
    proved: bool = False
    """Whether it was tried on the dataset's own files, and not only compiled from what others do."""


class RldsLayout(Config):
    """Where an RLDS dataset keeps what; from the table, or from the settings of a source."""

    image_key: str
    action: tuple[ActionPart, ...] | str
    """Parts that become one vector, or a feature that is one."""
    proprioception: tuple[str, ...]
    instruction_key: str
    instruction_encoding: Literal["text", "code-points"] = "text"
    fps: float
    conventions: Conventions = Conventions()


def layout_of(config: RldsSource) -> RldsLayout:
    """Raises ConfigError for a dataset that the table does not name, a view that it does not have, and no rate."""
    if config.openx is not None:
        return _from_table(config, config.openx)
    if config.fps is None:
        raise ConfigError(
            "RLDS files do not say their frame rate: set source.fps (Bridge: 5), or source.openx to the name of an "
            f"Open-X dataset, whose rate and keys are known: {', '.join(sorted(openx_table()))}."
        )
    return RldsLayout(
        image_key=config.image_key,
        action=config.action_key,
        proprioception=() if config.proprioception_key is None else (config.proprioception_key,),
        instruction_key=config.instruction_key,
        fps=config.fps,
    )


def openx_table(url: str | None = None) -> Mapping[str, OpenXDataset]:
    """The table that comes with the library, below the entries of one's own. Raises ConfigError for a damaged one."""
    return _built_in() if url is None else {**_built_in(), **_parsed(url, _text_of(url))}


def unproved_name(config: RldsSource) -> str | None:
    """The built-in entry that a source is read by, where it was not tried on the dataset's own files."""
    if config.openx is None:
        return None
    entry, built_in = openx_table(config.openx_table).get(config.openx), _built_in().get(config.openx)
    return config.openx if entry is not None and entry == built_in and not entry.proved else None


def _from_table(config: RldsSource, name: str) -> RldsLayout:
    table = openx_table(config.openx_table)
    if name not in table:
        near = difflib.get_close_matches(name, table, n=3, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(table))}."
        raise ConfigError(
            f"source.openx={name} is in no table of Open-X datasets; {meant} Describe it in a table of your own "
            "(source.openx_table), or set source.fps and the keys by hand."
        )
    entry = table[name]
    camera = config.camera if config.camera is not None else next(iter(entry.cameras))
    if camera not in entry.cameras:
        raise ConfigError(f"{name} has no view '{camera}': set source.camera to {' or '.join(entry.cameras)}")
    conventions = Conventions(
        actions=tuple(dimension for part in entry.action for dimension in part.conventions()),
        control_hz=entry.hz,
        cameras=(entry.cameras[camera],),
        embodiment=entry.robot,
        licence=None if entry.licence == "unknown" else entry.licence,
    )
    return RldsLayout(
        image_key=entry.cameras[camera],
        action=entry.action,
        proprioception=entry.proprioception,
        instruction_key=entry.instruction,
        instruction_encoding=entry.instruction_encoding,
        fps=config.fps or entry.hz,
        conventions=conventions,
    )


@cache
def _built_in() -> Mapping[str, OpenXDataset]:
    return _parsed(TABLE.name, TABLE.read_text())


def _text_of(url: str) -> str:
    try:
        return files.read_bytes(url).decode()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ConfigError(f"the table source.openx_table={url} cannot be read: {error}. Correct the path.") from error


def _parsed(name: str, text: str) -> dict[str, OpenXDataset]:
    try:
        entries: dict[str, Any] = yaml.safe_load(text) or {}
        return {key: OpenXDataset.model_validate(entry) for key, entry in entries.items()}
    except (yaml.YAMLError, ValidationError, AttributeError) as error:
        raise ConfigError(f"{name} is no table of Open-X datasets: {error}. Compare it with {TABLE.name}.") from error
