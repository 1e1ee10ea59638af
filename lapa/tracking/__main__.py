"""`python -m lapa.tracking JOURNAL...`: send what earlier runs could not, because their server was away."""

import argparse
import logging
import sys
from pathlib import Path

from lapa.errors import LapaError, TrackingError
from lapa.tracking.delivery import brief, next_batch, send
from lapa.tracking.journal import Journal
from lapa.tracking.mlflow_client import RunWriter

logger = logging.getLogger(__name__)


def deliver(folder: Path) -> int:
    """Send everything a journal holds; returns how many entries that was. Raises `TrackingError` when there
    is no journal or the server is still away. Never on the journal of a stage that is running."""
    if not (folder / "run.json").exists():
        raise TrackingError(f"{folder} is no tracking journal: it has no run.json. Name a stage's journal folder.")
    journal = Journal(folder)
    waiting = len(journal)
    writer = RunWriter(journal)
    while batch := next_batch(journal.pending(1000)):
        try:
            send(batch, writer, journal)
        except Exception as error:
            raise TrackingError(
                f"{journal.read_run()['uri']} is still away ({brief(error)}); {len(journal)} entries wait in {folder}. "
                "Run this again when the server answers."
            ) from error
    journal.close()
    return waiting


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lapa.tracking", description=__doc__)
    parser.add_argument("journal", type=Path, nargs="+", help="journal folder of a stage")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        for folder in parser.parse_args().journal:
            logger.info("delivered=%d journal=%s", deliver(folder), folder)
    except LapaError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
