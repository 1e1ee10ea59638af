"""One self-contained page about a run: verdict, data, codes and what they mean, success, lineage."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lapa import files
from lapa.config.load import arms
from lapa.config.run import RunConfig
from lapa.report.analysis import find_analysis, with_media
from lapa.report.collect import collect_run
from lapa.report.page import build_report
from lapa.report.summary import AnalysisSummary, RunSummary
from lapa.stages.plan import NotMadeYet, finished, run_file, stage_folder, stages_of

logger = logging.getLogger(__name__)

NO_ANALYSIS = "no-analysis"


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Write the page beside the run's stages and print where it is, as JSON.

    Analyses that are not there yet are made first, unless `arguments` hold `no-analysis`.
    """
    url = files.join(run.work_url, f"report-{run.name}.html")
    summary = summarize(run, is_analysed=NO_ANALYSIS not in arguments)
    files.write_bytes(url, build_report(summary).encode())
    sys.stdout.write(json.dumps({"report": url}) + "\n")


def summarize(run: RunConfig, *, is_analysed: bool = False) -> RunSummary:
    """What the run's stages left, as the report and comparisons show it."""
    folders = {name: _folders(arm, is_baseline=name != run.name) for name, arm in arms(run).items()}
    analysis = _analysed(run) if is_analysed else _found(run)
    return collect_run(run, folders, analysis=analysis, command=f"lapactl run {_shown(run_file(run))}")


def _analysed(run: RunConfig) -> AnalysisSummary:
    """The analyses, made now where they are missing. A report without them is better than none."""
    if finished(run, "laq") is None:
        return AnalysisSummary(note="There is no finished latent-action model to analyse yet.")
    from lapa.stages.analyze import analyze_run  # loads torch

    try:
        return with_media(analyze_run(run))
    except Exception as error:
        logger.exception("event=analysis-failed run=%s", run.name)
        return AnalysisSummary(note=f"The analyses failed: {error}. `lapactl analyze all` tells more.")


def _found(run: RunConfig) -> AnalysisSummary:
    result = finished(run, "laq")
    found = find_analysis(run.work_url, result.outputs["model"].digest) if result else None
    return with_media(found) if found else AnalysisSummary(note="Not analysed; `lapactl report` does it.")


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
