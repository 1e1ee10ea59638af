"""One self-contained page about a run: verdict, data, codes and what they mean, success, lineage."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lapa import files
from lapa.config.load import arms
from lapa.config.run import RunConfig
from lapa.report.collect import collect_run
from lapa.report.page import build_report
from lapa.report.summary import RunSummary
from lapa.stages.plan import NotMadeYet, run_file, stage_folder, stages_of


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Write the page beside the run's stages and print where it is, as JSON."""
    url = files.join(run.work_url, f"report-{run.name}.html")
    files.write_bytes(url, build_report(summarize(run)).encode())
    sys.stdout.write(json.dumps({"report": url}) + "\n")


def summarize(run: RunConfig) -> RunSummary:
    """What the run's stages left, as the report and comparisons show it."""
    folders = {name: _folders(arm, is_baseline=name != run.name) for name, arm in arms(run).items()}
    return collect_run(run, folders, command=f"lapactl run {_shown(run_file(run))}")


def _shown(path: Path) -> Path:
    """As one would type it here: the run's `work_url` may be relative to this folder too."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _folders(run: RunConfig, *, is_baseline: bool) -> dict[str, str | None]:
    """Folders of a run's stages; None for those whose inputs are not there: they have no place yet."""
    found: dict[str, str | None] = {}
    for stage in stages_of(run, is_baseline=is_baseline):
        try:
            found[stage] = stage_folder(run, stage)
        except NotMadeYet:
            found[stage] = None
    return found
