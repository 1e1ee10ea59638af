"""What a running stage tells whoever started it: one JSON line per event, in the file named by the environment."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

PROGRESS_VARIABLE = "LAPA_PROGRESS_FILE"


def report_progress(stage: str, phase: str, **numbers: Any) -> None:
    """Append an event; nothing happens when nobody asked. `step`, `steps`, `rate` and `unit` draw the bar."""
    path = os.environ.get(PROGRESS_VARIABLE)
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"time": time.time(), "stage": stage, "phase": phase, **numbers}) + "\n")


def report_resumption(stage: str, words: str) -> None:
    """Say once how much of the stage an earlier start had made: in its log, and to whoever watches."""
    logger.info("%s: %s", stage, words)
    report_progress(stage, "resume", note=words)
