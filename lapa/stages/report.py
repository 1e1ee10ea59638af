"""One self-contained page about a run: data, codebook health, pictures, curves, success, lineage. Needs no torch."""

import json
import sys
from collections.abc import Sequence

from lapa import files
from lapa.config.load import arms
from lapa.config.run import RunConfig
from lapa.stages.plan import NotMadeYet, stage_folder, stages_of
from lapa.tracking.report.collect import collect_run
from lapa.tracking.report.page import build_report


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Write the page beside the run's stages and print where it is, as JSON."""
    folders = {name: _folders(arm, is_baseline=name != run.name) for name, arm in arms(run).items()}
    command = f"lapactl run {run.name}.yaml --work {run.work_url}"
    summary = collect_run(run.work_url, run, folders=folders, command=command)
    url = files.join(run.work_url, f"report-{run.name}.html")
    files.write_bytes(url, build_report(summary).encode())
    sys.stdout.write(json.dumps({"report": url}) + "\n")


def _folders(run: RunConfig, *, is_baseline: bool) -> dict[str, str]:
    """Folders of the stages whose inputs are there; later ones have no place yet."""
    found: dict[str, str] = {}
    for stage in stages_of(run, is_baseline=is_baseline):
        try:
            found[stage] = stage_folder(run, stage)
        except NotMadeYet:
            break
    return found
