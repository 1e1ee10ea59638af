"""Which setting wins: flag > `--set` > environment > project file > profile > preset > default.

A submission has two trees of settings, the run's and the cluster profile's. One notation reaches both: `laq.fit.steps`
is the run's, `cluster.scheduling.queue` the profile's. In the environment the same keys are spelt
`LAPA_LAQ__FIT__STEPS` and `LAPA_CLUSTER__SCHEDULING__QUEUE`; `LAPA_CLUSTER` alone names the profile.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lapa.config.load import arms, nested, overridden, parse_override, resolve, settings_layers
from lapa.config.presets import PRESETS
from lapa.config.run import RunConfig
from lapa_k8s.profile import ClusterProfile
from lapactl.profiles import BUILT_IN, DEFAULT_PROFILE, ProjectFile, find_profile, find_project, validate_profile

CLUSTER_VARIABLE = "LAPA_CLUSTER"
CLUSTER_PREFIX = "cluster."
DEFAULT_CLUSTER_RUN = "lapa"
"""What a cluster trains when nothing else is said: the full-size recipe."""
DEFAULT_ORIGIN = "default"

Change = tuple[str, Any]
"""A dotted key and its value."""


class Flag(NamedTuple):
    """An option of its own for a setting."""

    option: str
    key: str
    value: Any


class Layer(NamedTuple):
    """Settings of one source."""

    origin: str
    changes: Sequence[Change]


class Stacked(NamedTuple):
    """All layers on top of each other, and for every setting the layer that it is from."""

    settings: dict[str, Any]
    origins: dict[str, str]


class Settings(NamedTuple):
    """A submission's settings, resolved."""

    run: RunConfig
    run_origins: Mapping[str, str]
    cluster: ClusterProfile
    cluster_origins: Mapping[str, str]
    cluster_name: str
    source: str
    """Preset or file of the run."""


class ClusterSettings(NamedTuple):
    """A profile, resolved."""

    profile: ClusterProfile
    origins: Mapping[str, str]
    name: str


def resolve_settings(
    source: str | None, *, cluster: str | None, overrides: Sequence[str], flags: Sequence[Flag] = ()
) -> Settings:
    """Everything that was said, by rank. Raises ConfigError."""
    chosen_cluster = resolve_cluster(cluster, overrides=overrides, flags=flags)
    project_origin, project = find_project()
    chosen = source or project.run or DEFAULT_CLUSTER_RUN
    profile = find_profile(_profile_name(cluster, project))
    of_runs = Layer(profile.origin, list((profile.settings.get("settings") or {}).items()))
    above = _layers_above(project_origin, project, overrides, flags)
    run = stack([*_run_layers(chosen, of_runs), *_of(above, is_cluster=False)])
    resolved = resolve(run.settings)
    arms(resolved)  # a mistake in a baseline is told here, as everywhere
    return Settings(
        run=resolved,
        run_origins=_origins_of(resolved.model_dump(mode="json"), run.origins),
        cluster=chosen_cluster.profile,
        cluster_origins=chosen_cluster.origins,
        cluster_name=chosen_cluster.name,
        source=chosen,
    )


def resolve_cluster(
    cluster: str | None, *, overrides: Sequence[str] = (), flags: Sequence[Flag] = ()
) -> ClusterSettings:
    """The profile alone, for commands that concern no run. Raises ConfigError."""
    project_origin, project = find_project()
    name = _profile_name(cluster, project)
    profile = find_profile(name)
    above = _layers_above(project_origin, project, overrides, flags)
    kept = stack([Layer(profile.origin, list(profile.settings.items())), *_of(above, is_cluster=True)])
    shown = name or (DEFAULT_PROFILE if profile.origin != BUILT_IN else BUILT_IN)
    checked = validate_profile(kept.settings, what=f"cluster profile '{shown}' ({profile.origin})")
    return ClusterSettings(checked, _origins_of(checked.model_dump(mode="json"), kept.origins), shown)


def _profile_name(cluster: str | None, project: ProjectFile) -> str | None:
    return cluster or os.environ.get(CLUSTER_VARIABLE) or project.cluster


def _layers_above(origin: str, project: ProjectFile, overrides: Sequence[str], flags: Sequence[Flag]) -> list[Layer]:
    """What wins over presets and profiles, lowest first."""
    return [
        Layer(origin, list(project.settings.items())),
        *_environment_layers(),
        Layer("--set", [parse_override(item) for item in overrides]),
        *(Layer(flag.option, [(flag.key, flag.value)]) for flag in flags),
    ]


def _run_layers(source: str, profile: Layer) -> list[Layer]:
    """A run file is the project's word: the profile slips in between it and the preset that it names."""
    layers = [list(layer.items()) for layer in settings_layers(source)]
    if source in PRESETS:
        return [Layer(f"preset {source}", layers[0]), profile]
    return [*(Layer(f"preset of {source}", layer) for layer in layers[:-1]), profile, Layer(source, layers[-1])]


def stack(layers: Sequence[Layer]) -> Stacked:
    """Later layers win, folder by folder; a change of `kind` drops what the choice before it had."""
    settings: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, changes in layers:
        for key, value in changes:
            settings = overridden(settings, key, value)
            said = set(leaves(nested(key, value)))
            origins = {path: origin if path in said else origins.get(path, origin) for path in leaves(settings)}
    return Stacked(settings, origins)


def _origins_of(resolved: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, str]:
    """The origin of every setting of a resolved tree; what no layer said is a default."""
    return {path: origins.get(path, DEFAULT_ORIGIN) for path in leaves(resolved)}


def leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value; empty mappings are values."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _environment_layers() -> Iterator[Layer]:
    known = {*RunConfig.model_fields, "cluster"}
    for variable in sorted(os.environ):
        key = variable.removeprefix("LAPA_").lower().replace("__", ".")
        # Others use the prefix too, LAPA_PROGRESS_FILE for one: a variable whose first word is no section is theirs.
        is_ours = variable.startswith("LAPA_") and variable != CLUSTER_VARIABLE and key.partition(".")[0] in known
        if is_ours:
            yield Layer(variable, [parse_override(f"{key}={os.environ[variable]}")])


def _of(layers: Sequence[Layer], *, is_cluster: bool) -> list[Layer]:
    """The layers' changes of one of the two trees."""
    found = []
    for origin, changes in layers:
        flat = [change for key, value in changes for change in _unfolded(key, value)]
        own = [(key, value) for key, value in flat if key.startswith(CLUSTER_PREFIX) == is_cluster]
        prefix = CLUSTER_PREFIX if is_cluster else ""
        found.append(Layer(origin, [(key.removeprefix(prefix), value) for key, value in own]))
    return found


def _unfolded(key: str, value: Any) -> list[Change]:
    """`cluster: {a: 1}` as `cluster.a: 1`."""
    if key == CLUSTER_PREFIX.rstrip(".") and isinstance(value, Mapping):
        return [(f"{CLUSTER_PREFIX}{inner}", item) for inner, item in value.items()]
    return [(key, value)]
