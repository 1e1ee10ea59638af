"""Robots that ask at the same time are answered by one forward pass; who cannot be answered in time is told so.

While a batch runs, requests wait in a bounded queue; the next batch takes what is there. Nobody waits for a batch
to fill, so a lone robot pays nothing.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lapa.serving.refusals import Refusal

logger = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Timed(Generic[A]):
    """An answer, and where its time went."""

    answer: A
    queue_seconds: float
    infer_seconds: float
    batch_size: int


@dataclass(kw_only=True, eq=False)  # each is itself: questions hold arrays
class _Waiting(Generic[Q, A]):
    question: Q
    deadline: float
    """On the clock of `time.monotonic`."""
    asked: float = field(default_factory=time.monotonic)
    future: "asyncio.Future[Timed[A]]"


class Batcher(Generic[Q, A]):
    """Calls `run` on batches, in one thread of its own: a model is no place for two."""

    def __init__(self, run: Callable[[Sequence[Q]], Sequence[A]], *, max_batch: int, queue: int) -> None:
        self._run, self._max_batch, self._queue = run, max_batch, queue
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._loop_task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def start(self) -> None:
        self._loop_task = asyncio.get_running_loop().create_task(self._serve())

    async def close(self) -> None:
        """Refuse what waits; let what runs run out."""
        if self._loop_task is not None:
            self._loop_task.cancel()
        while self._waiting:
            self._refuse(self._waiting.popleft(), Refusal("unready", "the server is stopping; ask another one."))
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Q, *, seconds: float) -> Timed[A]:
        """The answer, within `seconds`. Raises Refusal: `overloaded` at once, `deadline` when the time is up."""
        if len(self._waiting) >= self._queue:
            raise Refusal("overloaded", f"{self._queue} requests are waiting already; ask again shortly.")
        future: asyncio.Future[Timed[A]] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(question=question, deadline=time.monotonic() + seconds, future=future)
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise Refusal(
                "deadline",
                f"no action was ready within {seconds:g} s, and what the robot saw is stale by now. "
                "Ask again with a new observation; if this goes on, fewer robots or a faster device is needed.",
            ) from None
        finally:
            self._forget(waiting)

    def _forget(self, waiting: _Waiting[Q, A]) -> None:
        """A client that went away, or whose time is up, holds no place in the queue."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            batch = [waiting for waiting in batch if not waiting.future.done()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: list[_Waiting[Q, A]]) -> None:
        """One bad request must not take its batch along: where the batch fails, each is tried alone."""
        started = time.monotonic()
        try:
            answers = await self._in_thread([waiting.question for waiting in batch])
        except Exception as error:
            if len(batch) > 1:
                logger.warning("event=batch_failed size=%d error=%s", len(batch), type(error).__name__)
                for waiting in batch:
                    await self._answer([waiting])
                return
            self._refuse(batch[0], error)
            return
        seconds = time.monotonic() - started
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(
                    Timed(
                        answer=answer,
                        queue_seconds=started - waiting.asked,
                        infer_seconds=seconds,
                        batch_size=len(batch),
                    )
                )

    async def _in_thread(self, questions: list[Q]) -> Sequence[A]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, questions)

    def _refuse(self, waiting: _Waiting[Q, A], error: Exception) -> None:
        if not waiting.future.done():
            waiting.future.set_exception(error)
