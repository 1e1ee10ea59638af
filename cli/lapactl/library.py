"""Questions to the library that need torch: asked in a process of their own, answered in JSON."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from lapa.process import own_program
from lapactl.errors import StageFailed
from lapactl.failures import explain_failure, own_error


def ask_library(arguments: Sequence[str], *, timeout_seconds: float = 600) -> Any:
    """What `python -m lapa …` prints as its last line. Raises StageFailed with its own error message."""
    command = own_program("lapa", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise StageFailed(
            f"`{' '.join(command)}` gave no answer for {timeout_seconds:.0f} s. Run it yourself to see where it waits.",
            StageFailed.exit_code,
        ) from error
    if done.returncode != 0:
        code = done.returncode if done.returncode > 0 else StageFailed.exit_code
        if (told := own_error(done.stderr)) is not None:  # as if it had been found here
            raise StageFailed(told.message, code)
        raise StageFailed(f"`python -m lapa {arguments[0]}` failed\n{explain_failure(done.stderr)}", code)
    return json.loads(done.stdout.strip().splitlines()[-1])
