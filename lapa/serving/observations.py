"""From what a client sent to the policy's observation: every field looked at before the model sees it.

Clients of several projects name the same things differently; the usual names are known, others are told with
`image_key` and `state_key`. A text is image data or it is refused: no request makes the server open a file.
"""

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lapa.serving.refusals import Refusal
from lapa.types.episodes import Frame, Observation

IMAGE_KEYS = ("image", "observation/image", "observation.image", "full_image")
STATE_KEYS = ("proprioception", "state", "observation/state", "observation.state", "states", "proprio")
INSTRUCTION_KEYS = ("instruction", "prompt", "task_description", "task", "language_instruction")

MAX_INSTRUCTION = 4000
"""Characters; far beyond what any policy reads."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request for actions."""

    observation: Observation
    instruction: str


@dataclass(frozen=True, kw_only=True)
class ObservationReader:
    """Reads the observations that one policy looks at."""

    proprioception_dims: int
    max_pixels: int
    image_key: str = ""
    state_key: str = ""

    def read(self, payload: Any) -> Asked:
        """Raises Refusal, which names the field, what it holds and what it must hold."""
        if not isinstance(payload, Mapping):
            raise Refusal("malformed", f"an observation is a mapping of fields; this is {_kind(payload)}.")
        fields = _flat(payload)
        return Asked(
            observation=Observation(image=self._image(fields), proprioception=self._state(fields)),
            instruction=_instruction(fields),
        )

    def _image(self, fields: Mapping[str, Any]) -> Frame:
        key = self.image_key or _known(fields, IMAGE_KEYS) or _only_camera(fields)
        if fields.get(key) is None:
            raise Refusal("malformed", f"the observation has no image {key!r}; it has {_names(fields)}.")
        return self._decoded(key, fields[key])

    def _decoded(self, key: str, value: Any) -> Frame:
        match value:
            case np.ndarray():
                frame = value
            case bytes():
                frame = self._from_file(key, value)
            case str():
                frame = self._from_file(key, _base64(key, value))
            case list():
                frame = _from_lists(key, value)
            case _:
                raise Refusal("malformed", f"{key} is {_kind(value)}; send an array, or the bytes of a JPEG or PNG.")
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise Refusal(
                "malformed",
                f"{key} has shape {frame.shape} and type {frame.dtype}; send uint8 RGB of shape (height, width, 3).",
            )
        self._check_size(key, frame.shape[1], frame.shape[0])
        return frame

    def _from_file(self, key: str, data: bytes) -> np.ndarray:
        """A JPEG or PNG; its size is known before its pixels are."""
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
                self._check_size(key, *picture.size)
                return np.asarray(picture.convert("RGB"))
        except Refusal:
            raise
        except UnidentifiedImageError:
            raise Refusal("malformed", f"{key} holds {len(data)} bytes that are no JPEG or PNG.") from None
        except Exception as error:  # whatever a decoder makes of hostile bytes
            raise Refusal("malformed", f"{key} cannot be decoded: {type(error).__name__}.") from error

    def _check_size(self, key: str, width: int, height: int) -> None:
        if not 1 <= width * height <= self.max_pixels:
            raise Refusal(
                "too_large" if width * height else "malformed",
                f"{key} is {width} x {height}; images have between 1 and {self.max_pixels} pixels.",
            )

    def _state(self, fields: Mapping[str, Any]) -> np.ndarray | None:
        """None for a policy that does not look at the state, whatever was sent."""
        if not self.proprioception_dims:
            return None
        key = self.state_key or _known(fields, STATE_KEYS) or STATE_KEYS[0]
        wanted = f"this policy looks at {self.proprioception_dims} numbers of proprioception"
        if fields.get(key) is None:
            raise Refusal("malformed", f"the observation has no {key!r}, and {wanted}; it has {_names(fields)}.")
        state = _numbers(key, fields[key])
        if state.shape != (self.proprioception_dims,):
            raise Refusal("malformed", f"{key} has shape {state.shape}; {wanted}.")
        if not np.isfinite(state).all():
            raise Refusal("malformed", f"{key} holds NaN or infinite numbers, or some beyond float32; {wanted}.")
        return state


def _instruction(fields: Mapping[str, Any]) -> str:
    key = _known(fields, INSTRUCTION_KEYS)
    if key is None:
        raise Refusal(
            "malformed", f"the observation has no instruction; send one of {', '.join(INSTRUCTION_KEYS)} as text."
        )
    value = fields[key]
    if not isinstance(value, str):
        raise Refusal("malformed", f"{key} is {_kind(value)}; an instruction is text.")
    if len(value) > MAX_INSTRUCTION:
        raise Refusal("malformed", f"{key} has {len(value)} characters; instructions have at most {MAX_INSTRUCTION}.")
    return value


def _flat(payload: Mapping[Any, Any]) -> dict[str, Any]:
    """`{"images": {"front": …}}` as `images/front`; one level, as clients nest."""
    flat: dict[str, Any] = {}
    for key, value in payload.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": item for inner, item in value.items()}
        else:
            flat[str(key)] = value
    return flat


def _known(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if fields.get(name) is not None), None)


def _only_camera(fields: Mapping[str, Any]) -> str:
    """Where there is one camera, it is meant; which of two is not for the server to guess."""
    cameras = [key for key, value in fields.items() if "image" in key and value is not None]
    if len(cameras) == 1:
        return cameras[0]
    if cameras:
        raise Refusal(
            "malformed",
            f"the observation has the images {_names(dict.fromkeys(cameras))}, and this policy looks at one: call "
            "it 'image', or serve with --image-key.",
        )
    return IMAGE_KEYS[0]


def _base64(key: str, text: str) -> bytes:
    """Data, or a refusal: a text is never the name of a file."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(
            "malformed", f"{key} is text and no base64; paths and addresses are never opened: send the image itself."
        ) from None


def _from_lists(key: str, value: list[Any]) -> np.ndarray:
    """Nested lists of 0..255, as plain JSON holds an image."""
    pixels = _numbers(key, value, dtype=None)
    if pixels.dtype.kind not in "iu" or (pixels.size and (pixels.min() < 0 or pixels.max() > 255)):
        raise Refusal("malformed", f"{key} holds other numbers than whole ones from 0 to 255.")
    return pixels.astype(np.uint8)


def _numbers(key: str, value: Any, dtype: Any = np.float32) -> np.ndarray:
    """An array of numbers from an array, nested lists or one number."""
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                raise ValueError("not numbers")
            return array if dtype is None else array.astype(dtype)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Refusal("malformed", f"{key} is {_kind(value)} that is no regular array of numbers.") from None


def _names(fields: Mapping[str, Any]) -> str:
    names = [repr(str(name)[:40]) for name in list(fields)[:12]]
    return ", ".join(names) or "nothing"


def _kind(value: Any) -> str:
    return {dict: "a mapping", list: "a list", str: "text", bytes: "bytes", type(None): "nothing"}.get(
        type(value), f"a value of type {type(value).__name__}"
    )
