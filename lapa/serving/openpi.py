"""openpi's protocol: metadata on connect, then one msgpack observation in, one msgpack answer out.

An answer that is text is an error; the connection stays open, so that one bad observation does not end an episode.
Beyond openpi: `{"reset": true}` begins an episode, alone or with an observation.
"""

import time
import uuid
from typing import Any

from starlette.websockets import WebSocket

from lapa.client.wire import pack, unpack
from lapa.serving.refusals import Refusal
from lapa.serving.rest import record
from lapa.serving.service import PolicyService
from lapa.serving.sessions import Sessions

PROTOCOL = "openpi"


async def talk(service: PolicyService, sessions: Sessions, websocket: WebSocket) -> None:
    """One connection, from metadata to its end."""
    async with sessions.accepted(websocket, PROTOCOL) as session:
        if session is None:
            return
        await websocket.send_bytes(pack(service.model.card))
        previous_ms: float | None = None
        episode = uuid.uuid4().hex
        while (data := await sessions.receive(session)) is not None:
            started = time.monotonic()
            try:
                reply = await _answer(service, data, episode)
                episode = reply.get("episode", episode)
            except Refusal as refusal:
                await websocket.send_text(f"{refusal.reason}: {refusal}")
                continue
            if previous_ms is not None and "server_timing" in reply:
                reply["server_timing"]["prev_total_ms"] = previous_ms
            await websocket.send_bytes(pack(reply))
            previous_ms = (time.monotonic() - started) * 1000


async def _answer(service: PolicyService, data: bytes | str, episode: str) -> dict[str, Any]:
    """With `episode` where one begins."""
    payload = _payload(data)
    begun = {}
    if isinstance(payload, dict) and payload.pop("reset", False) is True:
        episode = service.reset()
        begun = {"reset": True, "episode": episode}
        if not payload:
            return begun
    return record(service, await service.act(payload, protocol=PROTOCOL, episode=episode)) | begun


def _payload(data: bytes | str) -> Any:
    if isinstance(data, str):
        raise Refusal("malformed", "observations come as binary msgpack frames; this one is text.")
    try:
        return unpack(data)
    except ValueError as error:
        raise Refusal("malformed", f"{error}.") from None
