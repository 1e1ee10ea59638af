"""How a process of ours is tied to the one that started it, and how it ends; the cores it may use."""

import atexit
import ctypes
import logging
import os
import signal
import sys
from typing import NoReturn

from lapa.errors import RESTART_EXIT_CODE

STARTER_VARIABLE = "LAPA_STARTER"
"""Id of the process that started this one, set where its end is to be this one's too."""
PR_SET_PDEATHSIG = 1


def available_cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not tell (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def own_program(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """`python -m MODULE …` of what is installed; without `-P` a folder of that name in the current one comes first."""
    return [python, "-P", "-m", module, *arguments]


def stop_with_starter() -> None:
    """Save and end when the process that started us is killed, where it asked for that and Linux can tell."""
    starter = os.environ.pop(STARTER_VARIABLE, None)  # not for processes of our own
    if starter is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(starter):  # it is gone already
        sys.exit(RESTART_EXIT_CODE)


def end_process(code: int) -> NoReturn:
    """End with `code`; one of several ranks does so without tearing its interpreter down.

    DeepSpeed keeps its process groups to the very end. A Gloo thread of theirs that asks for the interpreter's lock
    during the tear-down aborts the process, and a rank that had trained to its end, or had saved and asked to be run
    again, would count as crashed (SIGABRT, "terminate called without an active exception").
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
