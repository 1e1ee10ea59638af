"""One robot's connection to a policy server: openpi's protocol, a token, and patience while the server is away."""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lapa.client.wire import pack, unpack
from lapa.errors import ServingError

logger = logging.getLogger(__name__)

LARGEST_REPLY = 64 * 2**20


class ServerAway(ServingError):
    """The server could not be reached for as long as the client was told to wait."""


class ServerRefused(ServingError):
    """The server answered, and gave no action. `reason` is its short word: `malformed`, `overloaded`, …"""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = message.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Reconnect:
    """How long a client tries, in all, and how often."""

    seconds: float = 60.0
    """Then ServerAway."""
    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 2.0
    answer_seconds: float = 30.0
    """A server that accepted a request and says nothing for so long counts as lost."""


@dataclass(frozen=True, kw_only=True)
class ActionAnswer:
    """What the server answered."""

    actions: np.ndarray
    """Horizon x dimensions, in the robot's own units."""
    model: dict[str, Any]
    """Name, version and digest of the policy that chose them."""
    timing: dict[str, float]
    clamped: int
    request_id: str


class PolicyClient:
    """Asks a policy server for action chunks. Connects when first used; not for several threads at once.

    A lost connection is made anew, and the observation sent again: inference changes nothing on the server.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        action_names: Sequence[str] = (),
        reconnect: Reconnect | None = None,
    ) -> None:
        """`url`: `ws://host:8000`. `action_names`: the robot's own, checked against the policy's when it connects."""
        self.url, self._token, self._action_names = url, token, tuple(action_names)
        self._reconnect = reconnect or Reconnect()
        self._connection: ClientConnection | None = None
        self._metadata: dict[str, Any] = {}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server says of its policy; connects where there is no connection."""
        self._connected(time.monotonic() + self._reconnect.seconds)
        return self._metadata

    def infer(self, image: np.ndarray, instruction: str, proprioception: np.ndarray | None = None) -> ActionAnswer:
        """The action chunk for what the robot sees now.

        Raises ServerRefused where the server says no, ServerAway where it stays silent for too long.
        """
        message: dict[str, Any] = {"image": image, "instruction": instruction}
        if proprioception is not None:
            message["proprioception"] = proprioception
        reply = self._exchange(message)
        return ActionAnswer(
            actions=np.asarray(reply["actions"]),
            model=reply.get("model", {}),
            timing=reply.get("server_timing", {}),
            clamped=int(reply.get("clamped", 0)),
            request_id=str(reply.get("request_id", "")),
        )

    def reset(self) -> str:
        """Begin an episode; returns its id."""
        return str(self._exchange({"reset": True}).get("episode", ""))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "PolicyClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        data = pack(message)
        deadline = time.monotonic() + self._reconnect.seconds
        while True:
            connection = self._connected(deadline)
            try:
                connection.send(data)
                reply = connection.recv(timeout=self._reconnect.answer_seconds)
            except (ConnectionClosed, OSError, TimeoutError) as error:
                logger.warning("event=connection_lost url=%s error=%s", self.url, type(error).__name__)
                self.close()
                if time.monotonic() >= deadline:
                    raise ServerAway(f"{self.url} gave no answer: {error}. Is the server running?") from error
                continue
            if isinstance(reply, str):
                raise ServerRefused(reply)
            return dict(unpack(reply))

    def _connected(self, deadline: float) -> ClientConnection:
        wait = self._reconnect.first_wait_seconds
        while self._connection is None:
            try:
                self._connect(deadline)
            except (OSError, TimeoutError, InvalidStatus, ConnectionClosed) as error:
                self._check_worth_waiting(error)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ServerAway(
                        f"{self.url} could not be reached for {self._reconnect.seconds:g} s: {error}. "
                        "Is the server running, and the address right?"
                    ) from error
                # Jitter: robots that lost the same server must not come back at the same moment.
                time.sleep(min(left, wait * random.uniform(0.5, 1.0)))
                wait = min(2 * wait, self._reconnect.longest_wait_seconds)
        return self._connection

    def _connect(self, deadline: float) -> None:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
        patience = max(0.1, min(10.0, deadline - time.monotonic()))
        connection = connect(
            self.url, compression=None, max_size=LARGEST_REPLY, additional_headers=headers, open_timeout=patience
        )
        try:
            greeting = connection.recv(timeout=patience)
            metadata = unpack(greeting) if isinstance(greeting, bytes) else {}
            self._check_actions(metadata.get("action_names"))
        except BaseException:
            connection.close()
            raise
        self._connection, self._metadata = connection, metadata

    def _check_actions(self, served: Any) -> None:
        """A policy made for another robot must not move this one."""
        if self._action_names and tuple(served or ()) != self._action_names:
            raise ServerRefused(
                f"mismatch: {self.url} serves a policy with actions {list(served or ())}, this robot takes "
                f"{list(self._action_names)}. Deploy the policy that was finetuned on this robot."
            )

    def _check_worth_waiting(self, error: Exception) -> None:
        """A wrong token does not become right."""
        if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403, 404):
            raise ServerRefused(
                f"unauthorized: {self.url} answered {error.response.status_code}; check the token and the address."
            ) from error
