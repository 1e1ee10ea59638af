"""From a preset or a YAML file, with overrides, to one resolved run; and back to YAML.

Parsing happens here, once. Errors name the key, the rule that it breaks and the nearest valid choice.
"""

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lapa.config.presets import PRESETS
from lapa.config.run import RunConfig
from lapa.errors import ConfigError

LIKENESS = 0.6
"""Of what was written to what is suggested in its place; what is less alike is no slip of the finger."""


def load_run(source: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Resolve a preset's name or a YAML file's path, with `a.b=c` overrides on top.

    A YAML file holds a whole run, or `preset: NAME` and the settings that differ from it.
    """
    settings: dict[str, Any] = {}
    for layer in settings_layers(source):
        settings = merge(settings, layer)
    for override in overrides:
        settings = overridden(settings, *parse_override(override))
    run = resolve(settings)
    arms(run)  # a mistake in a baseline is told now, not when the baseline is due
    return run


def resolve(settings: Mapping[str, Any], *, what: str = "the run") -> RunConfig:
    """Validate plain settings; every problem is listed in one ConfigError."""
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, RunConfig, what=what)) from None


def explain(error: ValidationError, root: type[BaseModel], *, what: str) -> str:
    """Every problem of settings for `root`, with the nearest valid choice."""
    problems = [f"  {_explain(detail, root)}" for detail in error.errors()]
    return "\n".join([f"{what} is not valid:", *problems])


def dump_run(run: RunConfig) -> str:
    """The resolved run as YAML: loading it gives the same run."""
    return str(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def run_schema() -> dict[str, Any]:
    """JSON schema of a run, for editors."""
    return RunConfig.model_json_schema()


def arms(run: RunConfig) -> dict[str, RunConfig]:
    """The run itself and each of its baselines, resolved; the baselines' names are the keys."""
    main = run.model_copy(update={"baselines": {}})
    resolved = {run.name: main}
    for name, changes in run.baselines.items():
        what = f"baseline '{name}', the run with baselines.{name} on top,"
        resolved[name] = changed(main, {"name": f"{run.name}-{name}", **changes}, what=what)
    return resolved


def changed(run: RunConfig, changes: Mapping[str, Any], *, what: str = "the run") -> RunConfig:
    """A run with other settings, each named as `--set` names it: `{"laq.fit.steps": 500}`."""
    settings: Mapping[str, Any] = run.model_dump(mode="json")
    for key, value in changes.items():
        settings = merge(settings, nested(key, value))
    return resolve(settings, what=what)


def nested(key: str, value: Any) -> dict[str, Any]:
    """`("a.b", 1)` as `{"a": {"b": 1}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes over base, folder by folder; a change of `kind` starts that choice from its defaults."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and key != "baselines":
            same_choice = "kind" not in value or value["kind"] == old.get("kind")
            merged[key] = merge(old if same_choice else {}, value)
        else:
            merged[key] = value
    return merged


def overridden(settings: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Settings with one override; `baselines.NAME.a.b` changes what that baseline has at `a.b` and no other one."""
    first, _, rest = key.partition(".")
    name, _, inner = rest.partition(".")
    if first != "baselines" or not name:
        return merge(settings, nested(key, value))
    baselines = settings.get("baselines") or {}
    changed = {**baselines.get(name, {}), inner: value} if inner else value
    return {**settings, "baselines": {**baselines, name: changed}}


def settings_layers(source: str) -> list[dict[str, Any]]:
    """Plain settings of a preset's name, or of a YAML file: the preset that it names, if any, and what differs."""
    if source in PRESETS:
        return [PRESETS[source]().model_dump(mode="json")]
    settings = _file_settings(source)
    preset = settings.pop("preset", None)
    if preset is None:
        return [settings]
    if preset not in PRESETS:
        raise ConfigError(f"preset '{preset}' in {source} is unknown.{_nearest(str(preset), PRESETS)}")
    return [PRESETS[preset]().model_dump(mode="json"), settings]


def _file_settings(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        raise ConfigError(f"'{source}' is neither a preset nor a file.{_nearest(source, PRESETS)}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold a mapping of settings; see `lapactl config show {next(iter(PRESETS))}`")
    return settings


def parse_override(override: str) -> tuple[str, Any]:
    """`"a.b=1"` as `("a.b", 1)`; the value is read as YAML."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override '{override}' is not of the form key.path=value, for example laq.fit.steps=500")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of override '{override}' is not valid YAML: {error}") from error


def _explain(error: ErrorDetails, root: type[BaseModel]) -> str:
    key, owner = _locate(error["loc"], root)
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key.{_nearest(str(error['loc'][-1]), _keys(owner, error['input']))}"
        case "union_tag_invalid":
            tags = [tag.strip().strip("'") for tag in str(error["ctx"]["expected_tags"]).split(",")]
            return f"{key}.kind: '{error['ctx']['tag']}' is not a choice.{_nearest(str(error['ctx']['tag']), tags)}"
        case "union_tag_not_found":
            return f"{key}: says no kind; the choices are in `lapactl config schema`"
        case "missing":
            return f"{key}: is required"
        case "value_error":
            return f"{key or 'run'}: {error['ctx']['error']}"
        case "literal_error":
            wanted = str(error["ctx"]["expected"])
            return f"{key}: {error['input']!r} is not a choice; valid are {wanted}"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _keys(owner: type[BaseModel] | None, value: Any) -> list[str]:
    """Those that could have been meant: with settings below it, a section."""
    fields = owner.model_fields if owner else {}
    sections = [name for name, field in fields.items() if _is_section(field.annotation)]
    return sections if isinstance(value, Mapping) and sections else list(fields)


def _is_section(annotation: Any) -> bool:
    return get_origin(annotation) is dict or next(_models(annotation), None) is not None


def _locate(location: Sequence[int | str], root: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The key as a user writes it (pydantic puts union tags in between), and what its valid neighbours belong to."""
    current: Any = root
    names: list[str] = []
    owner: type[BaseModel] | None = None
    for part in location:
        if isinstance(part, int) and get_origin(current) in (tuple, list):
            names.append(str(part))
            current = get_args(current)[0]
            continue
        if get_origin(current) is dict:
            names.append(str(part))
            current = get_args(current)[1]
            continue
        tagged = next((model for model in _models(current) if part in _tags(model)), None)
        model = next((model for model in _models(current) if part in model.model_fields), None)
        if tagged is not None and model is None:
            current = tagged
            continue
        owner = model or next(_models(current), None)
        names.append(str(part))
        current = owner.model_fields[part].annotation if owner and part in owner.model_fields else None
    return ".".join(names), owner


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _models(member)


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind and get_origin(kind.annotation) is Literal else ()


def _nearest(name: str, choices: Mapping[str, Any] | Sequence[str]) -> str:
    whole = [choice for choice in choices if name in choice]  # `train` is in `pretrain`, and as like to `tracking`
    close = whole if len(whole) == 1 else difflib.get_close_matches(name, list(choices), n=1, cutoff=LIKENESS)
    return f" Did you mean '{close[0]}'?" if close else f" Valid: {', '.join(choices)}."
