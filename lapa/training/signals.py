"""Ending in a saved step when the machine is taken away."""

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from lapa.errors import RESTART_EXIT_CODE

logger = logging.getLogger(__name__)


class Interrupted(SystemExit):
    """A stage stopped on a signal, what it had finished saved; the same command goes on from there."""

    def __init__(self, step: int | None = None) -> None:
        super().__init__(RESTART_EXIT_CODE)
        self.step = step
        """Where training stopped; None outside training."""


class SigtermInterrupts:
    """Inside, the first SIGTERM raises Interrupted, and later ones leave what cleans up after it in peace."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._process = os.getpid()
        self._previous: Any = None

    def __enter__(self) -> Self:
        # A function, never SIG_IGN: processes started from here begin with the default again.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child, which ends as if nobody had asked for more
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self.is_stopping:
            self.is_stopping = True
            logger.warning("event=stop-requested signal=SIGTERM next=end-now")
            raise Interrupted


class StopSignals:
    """Inside, SIGTERM and SIGINT only leave a note; the second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may install handlers; elsewhere (notebooks, tests) signals keep their meaning.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        logger.warning("event=stop-requested signal=%s next=save-after-this-step", signal.Signals(number).name)
