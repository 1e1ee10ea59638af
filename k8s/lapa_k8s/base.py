"""The base of every value of the control plane: frozen, complete at construction, closed to unknown keys."""

from typing import Any

from pydantic import BaseModel, ConfigDict

Manifest = dict[str, Any]
"""A Kubernetes object as plain data, the way the API takes it."""


class Spec(BaseModel):
    """Docstrings under fields become descriptions in the JSON schema."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )
