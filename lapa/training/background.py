"""Work that goes on beside training, in a thread: what became of it is asked for, it never interrupts."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Background:
    """One piece of work, begun at once. The thread dies with the process: whoever needs the work done waits."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.problem = ""
        """Why the work failed; nothing while it goes on, or when it went well."""
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        # Storage clients raise their own errors; whatever it was, the run should outlive it.
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
            logger.debug("event=background-work-failed", exc_info=True)
