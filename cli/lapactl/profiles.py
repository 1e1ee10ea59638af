"""Cluster profiles and the project file: where they lie, and how mistakes in them are told.

~/.config/lapa/clusters/NAME.yaml    a user's clusters (XDG_CONFIG_HOME is respected)
.lapa/clusters/NAME.yaml             a project's, here or in a folder above; it wins over the user's of that name
.lapa/project.yaml                   what the project wants of every run
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import Field, ValidationError

from lapa.config.load import LIKENESS
from lapa.errors import ConfigError
from lapa_k8s.base import Spec
from lapa_k8s.profile import ClusterProfile

BUILT_IN = "built-in"
"""Origin of a profile that nobody wrote."""
DEFAULT_PROFILE = "default"
"""Taken when it exists and none is named."""

GUIDE = "docs/guide-cluster.md, 'Describe the cluster once',"
"""Where a profile is shown whole."""

SpecT = TypeVar("SpecT", bound=Spec)


class ProjectFile(Spec):
    """`.lapa/project.yaml`: shared by everybody who works in the folder."""

    run: str | None = None
    """Preset or run file of `lapactl submit STAGE`, relative to the folder that holds `.lapa`."""
    cluster: str | None = None
    """Profile that is taken when none is named."""
    settings: dict[str, Any] = Field({})
    """As `--set` would give them: the run's, and with `cluster.` in front the profile's."""


class Found(NamedTuple):
    """Plain settings and the file they are from."""

    origin: str
    settings: dict[str, Any]


def find_profile(name: str | None) -> Found:
    """A profile by name. Without one the profile `default`, or no settings at all. Raises ConfigError."""
    places = [folder / f"{name or DEFAULT_PROFILE}.yaml" for folder in profile_folders()]
    path = next((path for path in places if path.is_file()), None)
    if path is not None:
        return Found(_shown(path), read_mapping(path))
    if name is None:
        return Found(BUILT_IN, {})
    known = sorted(list_profiles())
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    what = (
        f"Did you mean '{close[0]}'?" if close else f"There is: {', '.join(known)}." if known else "There is none yet."
    )
    raise ConfigError(
        f"there is no cluster profile '{name}'. {what} A profile is a file NAME.yaml in the project's .lapa/clusters/, "
        f"here or in a folder above, or in {_shown(profile_folders()[-1])}/. {GUIDE} shows one"
    )


def list_profiles() -> dict[str, Path]:
    """Every profile's name and file."""
    found: dict[str, Path] = {}
    for folder in reversed(profile_folders()):
        found |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return found


def profile_folders() -> list[Path]:
    """The project's first, then the user's."""
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lapa" / "clusters"
    project = project_folder()
    return [*([project / "clusters"] if project else []), user]


def project_folder() -> Path | None:
    """The nearest `.lapa`, here or above; the home folder's `.lapa` is MLflow's store, and no project."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        found = folder / ".lapa"
        if found.is_dir() and folder != Path.home():
            return found
    return None


def find_project() -> tuple[str, ProjectFile]:
    """The project file and its name; an empty one where there is none."""
    folder = project_folder()
    path = folder / "project.yaml" if folder else None
    if path is None or not path.is_file():
        return "", ProjectFile()
    project = validate(ProjectFile, read_mapping(path), what=_shown(path))
    if project.run and (path.parents[1] / project.run).is_file():
        project = project.model_copy(update={"run": str(path.parents[1] / project.run)})
    return _shown(path), project


def validate_profile(settings: Mapping[str, Any], *, what: str) -> ClusterProfile:
    """A whole profile from plain settings. Raises ConfigError with every problem."""
    return validate(ClusterProfile, settings, what=what)


def validate(model: type[SpecT], settings: Mapping[str, Any], *, what: str) -> SpecT:
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        problems = [f"  {explain_problem(detail, model)}" for detail in error.errors()]
        raise ConfigError("\n".join([f"{what} is not valid:", *problems])) from None


def read_mapping(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not a {type(settings).__name__}")
    return settings


def explain_problem(error: Any, model: type[Spec]) -> str:
    """A problem that pydantic found, in our words."""
    key = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            siblings = _fields_at(model, error["loc"][:-1])
            close = difflib.get_close_matches(str(error["loc"][-1]), siblings, n=1, cutoff=LIKENESS)
            return f"{key}: unknown key. " + (
                f"Did you mean '{close[0]}'?" if close else f"Valid: {', '.join(siblings)}."
            )
        case "value_error":
            return f"{key + ': ' if key else ''}{error['ctx']['error']}"
        case "literal_error":
            return f"{key}: {error['input']!r} is not a choice; valid are {error['ctx']['expected']}"
        case "missing":
            return f"{key}: is required"
        case "string_pattern_mismatch" if key.endswith("secret"):
            return f"{key}: names an existing Secret, such as lapa-bucket; it never holds one"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _fields_at(model: type[Spec], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid there."""
    current: Any = model
    for part in location:
        field = current.model_fields.get(str(part)) if isinstance(current, type) and issubclass(current, Spec) else None
        current = field.annotation if field else None
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, Spec) else []


def _shown(path: Path) -> str:
    """A path as people know it."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{prefix}{path.relative_to(base)}"
    return str(path)
