"""A running policy server as the policy of an evaluation: what robots would get, asked as robots ask."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lapa.client import PolicyClient, Reconnect
from lapa.client.connection import ServerRefused
from lapa.errors import PolicyError
from lapa.types.episodes import ActionChunk, Observation

CONNECTIONS = 8
"""Episodes that ask at a time; the server answers them in one batch."""
BUSY = ("overloaded", "deadline")
"""Refusals that pass: the server has robots to answer, too."""
FIRST_WAIT_SECONDS = 0.1


class ServedPolicy:
    """Called as `lapa.envs.simulator.Policy`. Every answer must come from the policy with the digest given: a server
    that switches to another version in the middle would make one number of two policies."""

    def __init__(
        self,
        url: str,
        *,
        digest: str,
        has_proprioception: bool,
        action_names: Sequence[str] = (),
        token: str | None = None,
        patience_seconds: float = 120.0,
    ) -> None:
        self._url, self._digest, self._token = url, digest, token
        self._has_proprioception, self._action_names = has_proprioception, tuple(action_names)
        self._patience = patience_seconds
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(max_workers=CONNECTIONS, thread_name_prefix="lapa-episode")

    def __call__(self, observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        """Raises PolicyError for another policy's answer, ServingError for a server that refuses or stays away."""
        return list(self._threads.map(self._ask, observations, instructions))

    def _ask(self, observation: Observation, instruction: str) -> ActionChunk:
        state = observation.proprioception if self._has_proprioception else None
        deadline, wait = time.monotonic() + self._patience, FIRST_WAIT_SECONDS
        while True:
            try:
                answer = self._client.infer(observation.image, instruction, state)
                break
            except ServerRefused as refusal:
                if refusal.reason not in BUSY or time.monotonic() + wait > deadline:
                    raise
                time.sleep(wait)
                wait = min(2 * wait, 5.0)
        digest = str(answer.model.get("digest", ""))
        if digest != self._digest:
            raise PolicyError(
                f"{self._url} now answers with another policy ({digest[:12]}…) than the evaluation began with "
                f"({self._digest[:12]}…), so nothing was attached. Evaluate again, or name the version: "
                "evaluate.policy=NAME/VERSION."
            )
        return ActionChunk(actions=answer.actions, policy_digest=digest)

    @property
    def _client(self) -> PolicyClient:
        """The calling thread's own connection."""
        if not hasattr(self._own, "client"):
            self._own.client = PolicyClient(
                self._url,
                token=self._token,
                action_names=self._action_names,
                reconnect=Reconnect(seconds=self._patience),
            )
        client: PolicyClient = self._own.client
        return client
