"""From the bytes of a `POST /act` to a mapping: plain JSON, json-numpy, or msgpack. Nothing is opened, nothing run."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from lapa.client.wire import from_json, unpack
from lapa.serving.refusals import Refusal

MSGPACK_TYPES = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


@dataclass(frozen=True, kw_only=True)
class Body:
    """What was sent, and in which dialect, so that the answer can use the same."""

    payload: Any
    is_msgpack: bool = False
    has_arrays: bool = False
    """Arrays came as json-numpy writes them."""
    is_encoded: bool = False
    """The JSON came as text inside JSON, as clients send it who cannot patch their JSON library."""


async def read_body(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """The body, never more than `max_bytes` of it in memory. Raises Refusal `too_large`, `too_slow`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        _refuse_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    _refuse_large(max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal("too_slow", f"the body was not there after {seconds:g} s; send it at once.") from None
    except ClientDisconnect:
        raise Refusal("malformed", "the client went away before its request was complete.") from None
    return b"".join(chunks)


def parse_body(data: bytes, content_type: str) -> Body:
    """Raises Refusal for what is neither JSON nor msgpack, or holds an array that is not what it says."""
    if content_type.partition(";")[0].strip().lower() in MSGPACK_TYPES:
        return Body(payload=_unpacked(data), is_msgpack=True)
    payload, has_arrays = _parsed(data)
    if isinstance(payload, dict) and set(payload) == {"encoded"} and isinstance(payload["encoded"], str):
        payload, has_arrays = _parsed(payload["encoded"].encode())
        return Body(payload=payload, has_arrays=has_arrays, is_encoded=True)
    return Body(payload=payload, has_arrays=has_arrays)


def _unpacked(data: bytes) -> Any:
    try:
        return unpack(data)
    except ValueError as error:
        raise Refusal("malformed", f"{error}.") from None


def _parsed(data: bytes) -> tuple[Any, bool]:
    has_arrays = False

    def hook(entry: dict[str, Any]) -> Any:
        nonlocal has_arrays
        has_arrays |= "__numpy__" in entry
        return from_json(entry)

    try:
        payload = json.loads(data.decode(), object_hook=hook, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise Refusal("malformed", f"the body is no readable JSON: {what}.") from None
    return payload, has_arrays


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse_large(max_bytes: int) -> NoReturn:
    raise Refusal("too_large", f"a request has at most {max_bytes} bytes; send a smaller or a compressed image.")
