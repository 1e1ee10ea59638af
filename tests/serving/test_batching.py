"""Robots that ask together, robots that ask too much, and robots that are gone."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest

from lapa.serving.batching import Batcher
from lapa.serving.refusals import Refusal

PATIENCE = 240


class Held:
    """A model that waits until it may answer, and remembers what it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began, self.may_answer = threading.Event(), threading.Event()

    def __call__(self, questions: Sequence[int]) -> list[int]:
        self.batches.append(list(questions))
        self.began.set()
        assert self.may_answer.wait(PATIENCE)
        if 13 in questions:
            raise RuntimeError("13 breaks every batch")
        return [10 * question for question in questions]


def in_loop(body: Callable[[Batcher[int, int], Held], Coroutine[Any, Any, None]], **settings: int) -> Held:
    held = Held()

    async def main() -> None:
        batcher = Batcher(held, **({"max_batch": 4, "queue": 8} | settings))
        batcher.start()
        try:
            await body(batcher, held)
        finally:
            held.may_answer.set()
            await batcher.close()

    asyncio.run(main())
    return held


async def asked(batcher: Batcher[int, int], *questions: int, seconds: float = PATIENCE) -> list[asyncio.Task[Any]]:
    """The questions in order, all in the queue."""
    tasks = [asyncio.create_task(batcher.ask(question, seconds=seconds)) for question in questions]
    await asyncio.sleep(0)
    return tasks


def test_a_lone_question_waits_for_nobody():
    async def body(batcher, held):
        held.may_answer.set()
        timed = await batcher.ask(7, seconds=PATIENCE)
        assert timed.answer == 70 and timed.batch_size == 1

    assert in_loop(body).batches == [[7]]


def test_what_came_during_one_batch_is_the_next_one():
    async def body(batcher, held):
        first = await asked(batcher, 1)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        rest = await asked(batcher, 2, 3, 4, 5, 6)
        held.may_answer.set()
        answers = [timed.answer for timed in await asyncio.gather(*first, *rest)]
        assert answers == [10, 20, 30, 40, 50, 60]

    assert in_loop(body).batches == [[1], [2, 3, 4, 5], [6]]


def test_a_full_queue_refuses_at_once():
    async def body(batcher, held):
        running = await asked(batcher, 1)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        waiting = await asked(batcher, 2, 3)
        with pytest.raises(Refusal, match="2 requests are waiting") as error:
            await batcher.ask(4, seconds=PATIENCE)
        assert error.value.status == 429 and batcher.depth == 2
        held.may_answer.set()
        await asyncio.gather(*running, *waiting)

    in_loop(body, queue=2)


def test_questions_that_hold_arrays_wait_like_any_other():
    """Arrays have no truth value: a place in the queue must be found by itself and not by comparing."""

    async def main() -> None:
        batcher: Batcher[np.ndarray, int] = Batcher(lambda questions: [len(q) for q in questions], max_batch=2, queue=8)
        asking = [asyncio.create_task(batcher.ask(np.zeros(n), seconds=PATIENCE)) for n in (2, 3, 4)]
        late = asyncio.create_task(batcher.ask(np.zeros(5), seconds=0.01))
        with pytest.raises(Refusal, match="stale"):
            await late  # nothing is answered before the start
        batcher.start()
        assert [timed.answer for timed in await asyncio.gather(*asking)] == [2, 3, 4]
        await batcher.close()

    asyncio.run(main())


def test_an_answer_that_comes_too_late_is_a_refusal_and_its_place_is_free():
    async def body(batcher, held):
        running = await asked(batcher, 1)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        with pytest.raises(Refusal, match="stale") as error:
            await batcher.ask(2, seconds=0.01)
        assert error.value.status == 504 and batcher.depth == 0
        held.may_answer.set()
        await asyncio.gather(*running)
        await batcher.ask(3, seconds=PATIENCE)

    assert in_loop(body).batches == [[1], [3]]


def test_a_client_that_is_gone_is_not_asked_for():
    async def body(batcher, held):
        running = await asked(batcher, 1)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        gone, stays = await asked(batcher, 2, 3)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        held.may_answer.set()
        assert (await stays).answer == 30
        await asyncio.gather(*running)

    assert in_loop(body).batches == [[1], [3]]


def test_one_question_that_breaks_the_batch_breaks_its_own_answer_only():
    async def body(batcher, held):
        running = await asked(batcher, 1)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        rest = await asked(batcher, 2, 13, 3)
        held.may_answer.set()
        answers = await asyncio.gather(*running, *rest, return_exceptions=True)
        assert [getattr(timed, "answer", timed.__class__) for timed in answers] == [10, 20, RuntimeError, 30]

    in_loop(body)


def test_who_waits_when_the_server_stops_is_told_so():
    async def body(batcher, held):
        await asked(batcher, 1)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        (waiting,) = await asked(batcher, 2)
        await batcher.close()
        with pytest.raises(Refusal, match="stopping"):
            await waiting

    in_loop(body)
