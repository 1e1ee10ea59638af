"""`python -m lapa.launch …`: torchrun, with its arguments, that ends with the exit code of its ranks.

torchrun ends with 1 whatever happened. Here the ranks' own code is kept: that of the first one that failed, and
75 ("run the same command again") where they stopped because they were asked to.
"""

import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from lapa.errors import RESTART_EXIT_CODE
from lapa.process import stop_with_starter

SAVING_SECONDS = 900
"""How long ranks may save after SIGTERM before they are killed; torchrun's own 30 s cut a large checkpoint short."""
_STOPPED = (RESTART_EXIT_CODE, -signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run torchrun to its end; returns the exit code."""
    if sys.flags.safe_path:  # torchrun does not start the ranks with our own options
        os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVING_SECONDS))
    # torchrun would keep one store for the ranks over all rounds, and tell its address in the first one only: a node
    # that comes back after it was lost waits for it in vain, and the others for that node (see also pytorch#135712).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    try:
        torchrun(arguments)
    except SignalException as stop:
        sys.stderr.write(f"event=stopped signal={stop.sigval.name} next=run-the-same-command-again\n")
        return RESTART_EXIT_CODE
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        if RESTART_EXIT_CODE in codes and all(code in _STOPPED for code in codes):
            return RESTART_EXIT_CODE
        sys.stderr.write(f"{error}\n")
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    return 0


def _stop_waiting(number: int, _frame: object) -> None:
    raise SignalException("stopped while waiting for peers", sigval=signal.Signals(number))


if __name__ == "__main__":
    # torchrun heeds it once ranks run. Before, while it waits for its peers, the first process of a container would
    # ignore it: a pod that is asked to go would keep its node for the whole grace period.
    signal.signal(signal.SIGTERM, _stop_waiting)
    stop_with_starter()
    sys.exit(main())
