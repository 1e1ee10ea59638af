"""`python -m lapa STAGE run.yaml`: what a pod runs under torchrun, and what `lapactl run` runs here."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.config.stages import STAGES
from lapa.errors import ConfigError, LapaError
from lapa.process import end_process, stop_with_starter

PROGRAMS: dict[str, str] = {
    **{stage: f"lapa.stages.{stage}" for stage in STAGES},
    "analyze": "lapa.stages.analyze",
    "describe": "lapa.stages.describe",
    "doctor": "lapa.stages.doctor",
    "footprint": "lapa.stages.footprint",
    "compare": "lapa.stages.compare",
    "probe": "lapa.stages.probe",
    "rehearse": "lapa.policy.rehearsal",
    "replay": "lapa.serving.recording_replay",
    "report": "lapa.stages.report",
    "serve": "lapa.serving.server",
}
"""Module of each verb, loaded when it is asked for: `ingest` and `report` do without torch."""

NEED_NO_RUN = ("doctor",)
"""Verbs about the machine alone."""
NO_RUN = "-"
"""In place of a run, where the arguments say what is meant: `analyze` and `probe` take models, `serve` a bundle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one program; the exit code is the error's own. Raises ConfigError where its run is missing."""
    stop_with_starter()
    options = _parser().parse_args(arguments)
    if options.run is None and options.program not in NEED_NO_RUN:
        raise ConfigError(
            f"'{options.program}' works on a run: name a preset or a YAML file, "
            f"for example: python -m lapa {options.program} run.yaml"
        )
    run = load_run(options.run, options.set) if options.run and options.run != NO_RUN else None
    _configure_logging(run)
    program = importlib.import_module(PROGRAMS[options.program])
    program.main(run, options.arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lapa", description=__doc__)
    parser.add_argument("program", choices=list(PROGRAMS), help="stage or helper to run")
    parser.add_argument("run", nargs="?", help="YAML file or preset of the run")
    parser.add_argument("arguments", nargs="*", help="what the helper takes, e.g. the stage to describe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")
    return parser


def _configure_logging(run: RunConfig | None) -> None:
    level = (run.log_level if run else "info").upper()
    rank = os.environ.get("RANK", "0")
    logging.basicConfig(
        level=level, stream=sys.stderr, format=f"%(asctime)s %(levelname)s rank={rank} %(name)s %(message)s"
    )
    for chatty in ("alembic", "mlflow", "botocore", "urllib3", "aiobotocore", "s3fs", "matplotlib", "DeepSpeed"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


if __name__ == "__main__":
    try:
        end_process(main())
    except LapaError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        end_process(error.exit_code)
