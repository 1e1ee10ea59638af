"""HTTP connections that must say what they want: whoever dribbles a request's head is cut off.

uvicorn limits how long a connection may idle after an answer, and nothing before one: without this, connections
that never finish a request stay open for ever.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def impatient(head_seconds: float) -> type[H11Protocol]:
    """A protocol for uvicorn's `http` that gives each request's head `head_seconds` to arrive."""

    class ImpatientProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()  # what came behind the answered request may be the beginning of a head

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            self._stop_waiting()
            super().handle_websocket_upgrade(event)

        def _look(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting()  # a whole head leaves this state
            elif self.conn.trailing_data[0]:
                self._expect_head()

        def _expect_head(self) -> None:
            if self._waiting is None:
                self._waiting = self.loop.call_later(head_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            self.transport.abort()

    return ImpatientProtocol
