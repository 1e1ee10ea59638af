"""The base of every config: frozen, complete at construction, closed to unknown keys."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Config(BaseModel):
    """Docstrings under fields become descriptions in the JSON schema."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )


def runtime(default: Any = ..., **constraints: Any) -> Any:
    """A field that changes how a stage runs, never what it makes: left out of the stage's fingerprint."""
    return Field(default, json_schema_extra={"runtime": True}, **constraints)


def added(default: Any = None, **constraints: Any) -> Any:
    """A field that came later and whose default means "as before": left out of fingerprints while it has it, so that
    results which were made without the field keep their names."""
    return Field(default, json_schema_extra={"added": True}, **constraints)


def result_settings(config: Config) -> dict[str, Any]:
    """The settings that decide what a stage makes: everything but the ``runtime`` fields, as plain data."""
    return {
        name: _plain(getattr(config, name))
        for name, info in type(config).model_fields.items()
        if not _is_marked(info, "runtime") and not (_is_marked(info, "added") and getattr(config, name) == info.default)
    }


def _is_marked(info: FieldInfo, mark: str) -> bool:
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get(mark))


def _plain(value: Any) -> Any:
    match value:
        case Config():
            return result_settings(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
