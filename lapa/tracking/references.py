"""How people name a registered model: `lapa-policy`, `lapa-policy@candidate`, `lapa-policy/3`.

`resolve` is what turns a name into something to deploy: the version it means now, pinned by number and digest.
"""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass

from lapa.errors import ConfigError, NotRegistered
from lapa.tracking.registry import ALIAS_PATTERN, ModelVersion, Registry

_VERSION = re.compile(r"[1-9]\d*")


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """A model and which of its versions: a number, an alias, or nothing said."""

    name: str
    which: int | str | None


def parse_reference(text: str) -> ModelReference:
    """Raises ConfigError for what is no reference."""
    name, slash, number = text.partition("/")
    if slash:
        if not name or not _VERSION.fullmatch(number):
            raise ConfigError(f"'{text}' names no version: write NAME/3, NAME@candidate or NAME alone.")
        return ModelReference(name=name, which=int(number))
    name, at, alias = text.partition("@")
    if not name or (at and not ALIAS_PATTERN.fullmatch(alias)):
        raise ConfigError(f"'{text}' names no model: write NAME, NAME@candidate or NAME/3; aliases are lower-case.")
    return ModelReference(name=name, which=alias if at else None)


def resolve(registry: Registry, reference: str, *, default: str = "candidate") -> ModelVersion:
    """The version that a reference means now; `.version`, `.digest` and `.url` pin it.

    A bare name means the alias `default`. Raises ConfigError for what is no reference, NotRegistered for a model,
    an alias or a version that is not there (with what is), TrackingError for a registry that is away.
    """
    wanted = parse_reference(reference)
    names = registry.names()
    if wanted.name not in names:
        raise NotRegistered(f"No model is registered as '{wanted.name}'.{_nearest(wanted.name, names)}")
    which = default if wanted.which is None else wanted.which
    aliases = registry.aliases(wanted.name)
    if isinstance(which, str) and which not in aliases:
        known = ", ".join(f"{alias} (version {version})" for alias, version in sorted(aliases.items())) or "none"
        raise NotRegistered(
            f"{wanted.name} has no alias '{which}'; it has: {known}. Name a version ({wanted.name}/1), or set the "
            f"alias first: `lapactl promote {wanted.name}/1 --to {which}`."
        )
    return registry.get(wanted.name, which)


def _nearest(name: str, choices: Collection[str]) -> str:
    if not choices:
        return " Nothing is registered here; check the tracking server, `lapactl run` registers what it trains."
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else f" Registered: {', '.join(choices)}."
