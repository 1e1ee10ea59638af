"""The door of the server, before any route: request ids and tokens, for HTTP and websockets."""

import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lapa.serving.access import OPEN_PATHS, Tokens

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = b"x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Guard:
    """ASGI middleware. Refuses without reading a body; puts `request_id` into the scope."""

    def __init__(self, app: App, tokens: Tokens, open_paths: frozenset[str] = OPEN_PATHS) -> None:
        self._app, self._tokens, self._open_paths = app, tokens, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                message["headers"] = [*message.get("headers", []), (REQUEST_ID, request_id.encode())]
            await send(message)

        is_open = not self._tokens or scope["path"] in self._open_paths
        if is_open or self._tokens.accept(_header(scope, b"authorization")):
            await self._app(scope, receive, send_with_id)
            return
        client = (scope.get("client") or ("-",))[0]
        logger.warning("event=unauthorized path=%r client=%s request=%s", scope["path"], client, request_id)
        await deny(
            scope,
            send_with_id,
            401,
            "unauthorized",
            "send the server's token: Authorization: Bearer TOKEN.",
            headers=[(b"www-authenticate", b"Bearer")],
        )


async def deny(
    scope: Scope,
    send: Send,
    status: int,
    reason: str,
    message: str,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """An error as JSON, also in place of a websocket's handshake."""
    body = json.dumps({"error": {"reason": reason, "message": message, "request_id": scope.get("request_id", "")}})
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    all_headers = [(b"content-type", b"application/json"), *(headers or [])]
    if kind == "http.response":
        # The body was not read, so the connection has no next request.
        all_headers += [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": f"{kind}.start", "status": status, "headers": all_headers})
    await send({"type": f"{kind}.body", "body": body.encode()})


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _request_id(scope: Scope) -> str:
    """The client's own where it is short and plain: it ends up in logs."""
    offered = _header(scope, REQUEST_ID) or ""
    return offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex
