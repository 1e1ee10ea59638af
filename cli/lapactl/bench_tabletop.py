"""What `lapactl bench tabletop` does: the study's jobs through the scheduler, their results into a table."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lapa.bench.ablations import ABLATIONS, WHERE
from lapa.bench.answers import caution
from lapa.bench.collect import collect
from lapa.bench.jobs import Arm
from lapa.bench.markdown import as_markdown
from lapa.bench.methods import ABLATED, STUDIED
from lapa.bench.page import as_page
from lapa.bench.provenance import provenance_of
from lapa.bench.results import EVERYTHING, BenchTable
from lapa.bench.settings import SETTINGS
from lapa.bench.sizes import size_named
from lapa.bench.study import Study, arms_of
from lapa.bench.table import build_table
from lapa.config.load import parse_override
from lapactl.bench_run import make_jobs, print_jobs
from lapactl.errors import StageFailed
from lapactl.output import Output, OutputFormat


@dataclass(frozen=True, kw_only=True)
class Request:
    """The command line."""

    settings: Sequence[str]
    methods: Sequence[str]
    seeds: int | None
    size: str
    jobs: int | None
    is_validation: bool
    overrides: Sequence[str]
    work: str | None
    results: str | None
    is_tracked: bool
    is_table_only: bool
    is_ablated: bool
    is_dry: bool


def run_tabletop(request: Request, output: OutputFormat) -> None:
    """Make what is missing and write the table. Raises StageFailed, after the table, when an arm failed."""
    out = Output(output)
    study = study_of(request)
    arms = arms_of(study)
    if request.is_dry:
        print_jobs(out, arms)
        return
    failures: dict[str, str] = {}
    if not request.is_table_only:
        failures = make_jobs(arms, work_url=study.work_url, slots=request.jobs, out=out)
    table = table_of(study, arms, failures, command=repeatable_command(request))
    where = write_table(table, Path(request.results or f"{study.work_url}/results"), name=file_name(request))
    tell(out, table, where)
    if failures:
        raise StageFailed(f"{len(failures)} of {len(arms)} arms failed; they are named above", StageFailed.exit_code)


def study_of(request: Request) -> Study:
    """Defaults filled in; ablations come beside what is named. Raises ConfigError for names that do not exist."""
    settings, methods = (WHERE,) if request.is_ablated else tuple(SETTINGS), STUDIED
    if request.is_ablated:
        methods = (*request.methods, *(method.name for method in ABLATIONS)) if request.methods else ABLATED
    elif request.methods:
        methods = tuple(request.methods)
    return Study(
        size=request.size,
        settings=tuple(dict.fromkeys(request.settings)) or settings,
        methods=tuple(dict.fromkeys(methods)),
        seeds=request.seeds or size_named(request.size).seeds,
        work_url=request.work or "work/bench",
        is_validation=request.is_validation,
        is_tracked=request.is_tracked,
        overrides=dict(parse_override(override) for override in request.overrides),
    )


def table_of(study: Study, arms: Sequence[Arm], failures: dict[str, str], *, command: str) -> BenchTable:
    results = collect(arms)
    return build_table(study, results, failures=failures, provenance=provenance_of(results, command=command))


def file_name(request: Request) -> str:
    """`tabletop-small`, `tabletop-small-ablations`, `tabletop-small-validation`."""
    parts = ["tabletop", request.size, *["ablations"] * request.is_ablated, *["validation"] * request.is_validation]
    return "-".join(parts)


def write_table(table: BenchTable, folder: Path, *, name: str) -> dict[str, str]:
    """The three files; their places by format."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"md": as_markdown(table), "json": table.model_dump_json(indent=2) + "\n", "html": as_page(table)}
    for suffix, text in texts.items():
        (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    return {suffix: str(folder / f"{name}.{suffix}") for suffix in texts}


def tell(out: Output, table: BenchTable, where: dict[str, str]) -> None:
    """The table itself as JSON, or its heart as text."""
    if out.is_json:
        out.json({"files": where, "table": table.model_dump(mode="json")})
        return
    rows = [
        {
            "setting": cell.setting,
            "method": cell.method,
            "success": f"{cell.rate:.1%}",
            "interval": f"{cell.low:.1%} to {cell.high:.1%}",
            "episodes": cell.episodes,
        }
        for cell in table.cells
        if cell.split == EVERYTHING
    ]
    out.table(rows, columns=["setting", "method", "success", "interval", "episodes"])
    for target in table.targets:
        verdict = "met" if target.is_met else "missed"
        out.text(f"{verdict}: {target.says} ({target.setting}, {target.split}): {target.value}")
    if warning := caution(table):
        out.warn(warning)
    for path in where.values():
        out.say(f"written: {path}")


def repeatable_command(request: Request) -> str:
    """The command whose numbers these are: how many processes made them, and where, is left out."""
    words = ["lapactl", "bench", "tabletop", "--size", request.size]
    words += [word for name in request.settings for word in ("--setting", name)]
    words += [word for name in request.methods for word in ("--method", name)]
    words += ["--ablations"] if request.is_ablated else []
    words += ["--seeds", str(request.seeds)] if request.seeds else []
    words += ["--validation"] if request.is_validation else []
    words += [word for override in request.overrides for word in ("--set", override)]
    return shlex.join(words)
