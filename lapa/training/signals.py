"""Ending in a saved step when the machine is taken away."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from lapa.errors import RESTART_EXIT_CODE

logger = logging.getLogger(__name__)


class Interrupted(SystemExit):
    """Training stopped on a signal with its step saved; the same command goes on from there."""

    def __init__(self, step: int) -> None:
        super().__init__(RESTART_EXIT_CODE)
        self.step = step


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
