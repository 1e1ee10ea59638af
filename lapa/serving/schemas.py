"""The REST interface as its OpenAPI document tells it. Answers are built elsewhere; tests hold them to this."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ModelName(_Document):
    """Which policy answered."""

    name: str
    version: str
    digest: str


class Timing(_Document):
    """Where the time went, in milliseconds."""

    queue_ms: float
    infer_ms: float
    total_ms: float
    batch: float
    """Robots that were answered together."""


class ActionRecord(_Document):
    """An action chunk and what is known about it."""

    actions: list[list[float]] | dict[str, Any]
    """Horizon x dimensions, in the robot's own units; as json-numpy writes it where the request did."""
    clamped: int = Field(ge=0)
    """Numbers that were outside the recorded range and brought into it."""
    request_id: str
    model: ModelName
    server_timing: Timing


class ErrorDetails(_Document):
    """Why there is no action."""

    reason: str
    message: str
    request_id: str


class ErrorReply(_Document):
    """Every refusal has this form."""

    error: ErrorDetails


class Health(_Document):
    """The server's state."""

    status: Literal["loading", "ready", "draining", "failed"]


class EpisodeReply(_Document):
    """An episode has begun."""

    episode: str


class Metadata(_Document):
    """What the policy is, and what it looks at."""

    server: str
    name: str
    version: str
    digest: str
    horizon: int
    action_names: list[str]
    action_low: list[float]
    action_high: list[float]
    proprioception_dims: int
    frame_size: int
    deadline_seconds: float
    compiled: bool
    conventions: dict[str, Any]
    """What the actions mean, as far as it is known."""


_ARRAY = {
    "type": "object",
    "description": "An array as json-numpy writes it.",
    "required": ["__numpy__", "dtype", "shape"],
    "properties": {
        "__numpy__": {"type": "string", "format": "byte"},
        "dtype": {"type": "string", "examples": ["|u1", "<f4"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 8},
    },
}
_PIXELS = {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}}
_IMAGE = {
    "description": "uint8 RGB: an array, nested lists, or the bytes of a JPEG or PNG as base64. Never a path.",
    "anyOf": [_ARRAY, _PIXELS, {"type": "string", "format": "byte"}],
}
_STATE = {"anyOf": [_ARRAY, {"type": "array", "items": {"type": "number"}}]}
ACT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One observation. Fields of other names are ignored, except as the server was told.",
    "required": ["image", "instruction"],
    "properties": {"image": _IMAGE, "instruction": {"type": "string", "maxLength": 4000}, "proprioception": _STATE},
}
ACT_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ACT_SCHEMA}}},
}
