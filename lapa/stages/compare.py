"""Runs side by side as one page, and as JSON for other programs."""

import json
import re
import sys
from collections.abc import Sequence

from lapa import files
from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.errors import ConfigError
from lapa.report.compare import build_comparison
from lapa.report.comparison import compare_runs, plain
from lapa.stages.report import summarize

_SETTING = re.compile(r"[a-z_.0-9]+=.*")


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Compare ``run`` with the others in ``arguments``: sources of runs, each followed by its own KEY=VALUE settings.

    Writes the page beside the first run's stages, and prints the comparison with the page's URL as JSON.
    """
    runs = [run, *(load_run(source, settings) for source, settings in _sources(arguments))]
    if len(runs) < 2:
        raise ConfigError("a comparison needs two runs or more: lapactl compare RUN RUN")
    comparison = compare_runs([summarize(each) for each in runs])
    url = files.join(run.work_url, f"compare-{'-'.join(each.name for each in runs[:4])}.html")
    files.write_bytes(url, build_comparison(comparison).encode())
    sys.stdout.write(json.dumps({"page": url, **plain(comparison)}) + "\n")


def _sources(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if found and _SETTING.fullmatch(argument):
            found[-1][1].append(argument)
        else:
            found.append((argument, []))
    return found
