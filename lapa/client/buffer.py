"""From action chunks to one action at a time: what a control loop asks for at its own rate."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from lapa.client.connection import ActionAnswer, ServerAway


class Asks(Protocol):
    """What the buffer needs of a client."""

    def infer(self, image: np.ndarray, instruction: str, proprioception: np.ndarray | None = None) -> ActionAnswer: ...

    def reset(self) -> str: ...


class ChunkBuffer:
    """Executes chunks, and asks for the next one while there are still actions to execute.

    A chunk that was asked for `n` actions ago begins with `n` actions that are past: they are left out. While the
    server is away, the rest of the last chunk is executed; when that is over, `action` waits for the server, and
    raises ServerAway when the client gives up: hold the robot then.
    """

    def __init__(self, client: Asks, *, execute: int | None = None, ahead: int = 0) -> None:
        """`execute`: actions of a chunk that are used, all of them by default. `ahead`: ask for the next chunk when
        so many actions are left; 0 asks when none is, and waits."""
        self._client, self._execute, self._ahead = client, execute, ahead
        self._left: deque[np.ndarray] = deque()
        self._asking: Future[ActionAnswer] | None = None
        self._executed_since = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lapa-client")
        self.last_answer: ActionAnswer | None = None
        """Of the chunk that is being executed."""

    def action(self, image: np.ndarray, instruction: str, proprioception: np.ndarray | None = None) -> np.ndarray:
        """The action for now. Raises what the client raises, and only when no action is left."""
        self._take(wait=False)
        if self._asking is None and len(self._left) <= self._ahead:
            self._executed_since = 0
            self._asking = self._thread.submit(self._client.infer, image, instruction, proprioception)
        while not self._left:
            self._take(wait=True)
            if not self._left:  # the whole chunk is past: the server is slower than the robot
                self._executed_since = 0
                self._asking = self._thread.submit(self._client.infer, image, instruction, proprioception)
        self._executed_since += 1
        return self._left.popleft()

    def reset(self) -> None:
        """Begin an episode: what is left of the last one is thrown away."""
        if self._asking is not None:
            self._asking.exception()  # one connection, one request at a time
            self._asking = None
        self._left.clear()
        self._client.reset()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self, *, wait: bool) -> None:
        """Move to the chunk that was asked for, if it is there."""
        if self._asking is None or not (wait or self._asking.done()):
            return
        asking, self._asking = self._asking, None
        try:
            answer = asking.result()
        except ServerAway:
            if self._left:
                return  # asked again at the next action
            raise
        self.last_answer = answer
        self._left = deque(answer.actions[: self._execute][self._executed_since :])
