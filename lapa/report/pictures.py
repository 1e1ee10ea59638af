"""Images as data URIs, small enough that a whole report stays a few megabytes."""

import base64
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MAX_PICTURE_BYTES = 250_000
"""Of a PNG; a larger picture becomes a JPEG."""
MAX_PICTURE_SIDE = 1400
THUMBNAIL_SIDE = 192
STRIP_SIDE = 112


def picture_uri(png: bytes, kind: Literal["png", "jpeg"] = "png") -> str:
    """A PNG as it is, or as a smaller JPEG when it is large."""
    if len(png) <= MAX_PICTURE_BYTES:
        return _uri(png, kind)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE))
    return _uri(_jpeg(image), "jpeg")


def thumbnail_uri(frame: UInt8[np.ndarray, "h w 3"]) -> str:
    """A frame, at most `THUMBNAIL_SIDE` pixels wide."""
    image = Image.fromarray(frame)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _uri(_jpeg(image), "jpeg")


def strip_uri(frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> str:
    """Frames of one size side by side, each `STRIP_SIDE` pixels high."""
    image = Image.fromarray(np.concatenate(frames, axis=1))
    width = round(image.width * STRIP_SIDE / image.height)
    return _uri(_jpeg(image.resize((width, STRIP_SIDE), Image.Resampling.BICUBIC)), "jpeg")


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=86, optimize=True)
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
