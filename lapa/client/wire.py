"""Arrays in msgpack, as openpi's clients and servers write them, and in JSON, as json-numpy does. Never pickle.

What is read was sent by somebody else: only plain numbers become arrays, and only of the size that is there.
"""

import base64
import binascii
import math
from typing import Any

import msgpack
import numpy as np

_NUMBERS = frozenset("biuf")
"""Kinds of array that are read: truth values, integers, floating point. Objects would be pickle."""
_WIDEST = 8
"""Bytes of the widest number that is read."""


def pack(message: Any) -> bytes:
    """A message of plain values and arrays as msgpack. ValueError for values that it has no form for."""
    try:
        return bytes(msgpack.packb(message, default=_pack_array))
    except (TypeError, OverflowError) as error:
        raise ValueError(f"the message cannot be sent: {error}") from error


def unpack(data: bytes) -> Any:
    """The message in `data`. ValueError when it is no msgpack, or holds an array that is not what it says."""
    try:
        return msgpack.unpackb(data, object_hook=_unpack_array)
    # Besides its own ValueErrors, msgpack lets through what Python says of unhashable keys and too deep nesting.
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"the message is not readable msgpack: {_short(error)}") from error


def to_json(array: np.ndarray) -> dict[str, Any]:
    """An array as json-numpy writes it."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"__numpy__": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def from_json(entry: dict[str, Any]) -> Any:
    """Hook for `json.loads`: json-numpy's arrays become arrays, other objects stay. ValueError for a bad array."""
    if "__numpy__" not in entry:
        return entry
    encoded = entry["__numpy__"]
    if not isinstance(encoded, str):
        raise ValueError("__numpy__ must be base64 text")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"__numpy__ is not base64: {_short(error)}") from error
    return _array(data, entry.get("dtype"), entry.get("shape"))


def _pack_array(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in _NUMBERS:
        raise ValueError(f"an array of type {value.dtype} cannot be sent; send numbers")
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": list(value.shape),
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} has no form in the message")


def _unpack_array(entry: dict[Any, Any]) -> Any:
    """Keys are bytes from openpi's writer, text from writers in other languages."""
    if b"__ndarray__" in entry or "__ndarray__" in entry:
        return _array(_field(entry, "data"), _field(entry, "dtype"), _field(entry, "shape"))
    if b"__npgeneric__" in entry or "__npgeneric__" in entry:
        value = _field(entry, "data")
        if not isinstance(value, bool | int | float):
            raise ValueError(f"a numpy number holds {type(value).__name__}")
        return _dtype(_field(entry, "dtype")).type(value)
    return entry


def _field(entry: dict[Any, Any], name: str) -> Any:
    return entry.get(name.encode(), entry.get(name))


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or len(name) > 16:
        raise ValueError("an array's dtype must be a short text such as '|u1' or '<f4'")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"an array has the unknown dtype {name!r}") from error
    if dtype.kind not in _NUMBERS or dtype.itemsize > _WIDEST:
        raise ValueError(f"an array has dtype {name!r}; only numbers of at most {_WIDEST} bytes are read")
    return dtype


def _array(data: Any, dtype_name: Any, shape: Any) -> np.ndarray:
    dtype = _dtype(dtype_name)
    is_shape = isinstance(shape, list | tuple) and len(shape) <= 8
    if not is_shape or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array's shape must be a list of at most 8 sizes")
    if not isinstance(data, bytes) or math.prod(shape) * dtype.itemsize != len(data):
        held = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise ValueError(f"an array of shape {tuple(shape)} and dtype {dtype_name!r} holds {held}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
