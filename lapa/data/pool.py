"""Worker processes that end with their parent, and say what to do when one of them dies."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from lapa import timesheet
from lapa.errors import DataError


@contextmanager
def worker_pool(
    workers: int, *, work: str, remedy: str, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, each of which calls ``start(*arguments)`` first; what was not begun is dropped at the end.

    Raises DataError, naming the ``work`` and its ``remedy``, where a process dies. Interrupted, it ends its processes.
    """
    # Spawned, not forked: the caller may hold threads (fsspec's S3 client has one) and an accelerator.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(timesheet.orders(), start, arguments)
    )
    try:
        with timesheet.pool(workers):
            yield pool
    except BrokenProcessPool as error:
        raise DataError(f"a process of {work} died, most likely for lack of memory. {remedy}") from error
    except (KeyboardInterrupt, SystemExit):
        # Waiting for what they are at could take longer than the machine is still ours.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(orders: tuple[str, int] | None, start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    timesheet.begin_here(orders)
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    """A pool's workers wait forever when their parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
