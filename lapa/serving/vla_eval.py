"""The protocol of vla-evaluation-harness (`vla-eval` on PyPI), at `/vla-eval`: one observation in, one action out.

A benchmark of the harness names the server's address and needs no adapter of ours: `ws://HOST:8000/vla-eval`, or
`ws://lapa:TOKEN@HOST:8000/vla-eval`. The chunk is executed here, action by action, and thrown away when an episode
begins.
"""

import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.websockets import WebSocket

from lapa.client.wire import pack, unpack
from lapa.serving.refusals import Refusal
from lapa.serving.service import PolicyService
from lapa.serving.sessions import Sessions

PROTOCOL = "vla-eval"
PROTOCOL_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class _Message:
    kind: str
    payload: dict[str, Any]
    sequence: int


async def talk(service: PolicyService, sessions: Sessions, websocket: WebSocket) -> None:
    """One connection: any number of episodes, one after the other."""
    async with sessions.accepted(websocket, PROTOCOL) as session:
        if session is None:
            return
        episode = _Episode(service)
        while (data := await sessions.receive(session)) is not None:
            sequence = 0
            try:
                message = _read(data)
                sequence = message.sequence
                reply = await episode.take(message)
            except Refusal as refusal:
                reply = ("error", {"error": f"{refusal.reason}: {refusal}"})
            if reply is not None:
                await websocket.send_bytes(_written(*reply, sequence))


class _Episode:
    """What is left of the chunk that is being executed."""

    def __init__(self, service: PolicyService) -> None:
        self._service = service
        self._actions: deque[np.ndarray] = deque()
        self._id = uuid.uuid4().hex

    async def take(self, message: _Message) -> tuple[str, dict[str, Any]] | None:
        """The kind and the payload of the reply, where the protocol has one."""
        match message.kind:
            case "hello":
                return "hello", {
                    "harness_version": "lapa",
                    "protocol_version": PROTOCOL_VERSION,
                    "model_server": self._service.model.card["name"],
                    "model": self._service.model.card,
                    "capabilities": {},
                }
            case "episode_start":
                self._actions.clear()
                self._id = self._service.reset()
                return None
            case "observation":
                return "action", {"actions": await self._next(message.payload)}
            case "episode_end":
                self._actions.clear()
                return None
            case _:
                return None  # the client's own errors need no answer

    async def _next(self, payload: dict[str, Any]) -> np.ndarray:
        if not self._actions:
            answer = await self._service.act(_observation(payload), protocol=PROTOCOL, episode=self._id)
            execute = self._service.config.execute or len(answer.actions)
            self._actions.extend(answer.actions[:execute])
        return self._actions.popleft()


def _read(data: bytes | str) -> _Message:
    try:
        message = unpack(data if isinstance(data, bytes) else data.encode())
    except ValueError as error:
        raise Refusal("malformed", f"{error}.") from None
    is_message = isinstance(message, dict) and isinstance(message.get("payload"), dict)
    if not is_message or not isinstance(message.get("type"), str) or type(message.get("seq")) is not int:
        raise Refusal("malformed", "a message has a type, a payload and a seq.")
    return _Message(kind=message["type"], payload=message["payload"], sequence=message["seq"])


def _written(kind: str, payload: dict[str, Any], sequence: int) -> bytes:
    """Arrays have text for keys here, where openpi writes bytes."""
    actions = payload.get("actions")
    if isinstance(actions, np.ndarray):
        shape, dtype = list(actions.shape), actions.dtype.str
        payload = {"actions": {"__ndarray__": True, "data": actions.tobytes(), "dtype": dtype, "shape": shape}}
    return pack({"type": kind, "payload": payload, "seq": sequence, "timestamp": time.time()})


def _observation(payload: dict[str, Any]) -> dict[str, Any]:
    """With the harness's compressed images as the bytes of the file that they are."""
    return {key: _unwrapped(value) for key, value in payload.items()}


def _unwrapped(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "__image__" not in value:
        return {key: _unwrapped(item) for key, item in value.items()}
    if value.get("format") == "raw":
        raise Refusal("malformed", "send images as png, jpeg or plain arrays.")
    return value.get("data")
