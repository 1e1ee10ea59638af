"""Open websockets: counted, limited, and closed between two requests when the server stops."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from lapa.serving.guard import deny
from lapa.serving.refusals import Refusal
from lapa.serving.service import PolicyService, Status

logger = logging.getLogger(__name__)

RESTART_CODE = 1012
"""Websocket close code: the service restarts, connect again."""


@dataclass(eq=False)
class Session:
    """One websocket."""

    websocket: WebSocket
    protocol: str
    is_busy: bool = False
    """Between a request and its answer."""


class Sessions:
    """The open websockets of one service."""

    def __init__(self, service: PolicyService) -> None:
        self._service = service
        self._open: set[Session] = set()
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def accepted(self, websocket: WebSocket, protocol: str) -> AsyncIterator[Session | None]:
        """The session of an accepted websocket; None, and an HTTP error, where it cannot be taken."""
        refusal = self._refusal()
        if refusal is not None:
            await deny(websocket.scope, websocket.send, refusal.status, refusal.reason, str(refusal))
            yield None
            return
        session = Session(websocket, protocol)
        # Counted before the handshake is answered: what is awaited lets others in.
        self._open.add(session)
        gauge = self._service.metrics.sessions.labels(protocol)
        gauge.inc()
        try:
            await websocket.accept()
            yield session
        except WebSocketDisconnect:
            logger.debug("event=session_lost protocol=%s", protocol)
        finally:
            self._open.discard(session)
            gauge.dec()

    async def receive(self, session: Session) -> bytes | str | None:
        """The next message; None when the session is over."""
        session.is_busy = False
        if self._is_closing:
            await self._close(session)
            return None
        message = await session.websocket.receive()
        if message["type"] != "websocket.receive":
            return None
        session.is_busy = True
        data: bytes | str | None = message.get("bytes")
        return data if data is not None else message.get("text")

    async def close(self) -> None:
        """Close what is idle now, and the others when their answer is sent."""
        self._is_closing = True
        for session in list(self._open):
            if not session.is_busy:
                await self._close(session)

    def _refusal(self) -> Refusal | None:
        status, limit = self._service.status, self._service.config.max_sessions
        if status is not Status.READY and (status is not Status.DRAINING or self._is_closing):
            return Refusal("unready", f"the server is {status}; connect again shortly.")
        if len(self._open) >= limit:
            return Refusal("unready", f"{limit} websockets are open already, which is the limit of this server.")
        return None

    async def _close(self, session: Session) -> None:
        try:
            await session.websocket.close(RESTART_CODE, "the server restarts; connect again")
        except (WebSocketDisconnect, RuntimeError):
            logger.debug("event=session_gone protocol=%s", session.protocol)
