"""One self-contained HTML page for a run: no request leaves it, and it can be mailed as one file."""

import math
import re
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lapa.config.run import RunConfig
from lapa.report import curves, meaning, sections, shares, success
from lapa.report.axes import number
from lapa.report.findings_success import p_words
from lapa.report.health import CodeHealth, judge
from lapa.report.summary import RunSummary, StageSummary
from lapa.report.verdict import reach_verdict

_BREAKS = re.compile(r"([.=])")


def build_report(summary: RunSummary) -> str:
    """The page. Everything that came from data is escaped."""
    laq = summary.main.stage("laq")
    health = judge(laq, summary.config)
    return environment().get_template("report.html.j2").render(
        run=summary,
        verdict=reach_verdict(summary),
        usage=_usage(laq, summary.config, health),
        facts=sections.headline_numbers(summary),
        health=health,
        laq=laq,
        codebook_charts=curves.codebook_charts(laq, summary.config, health),
        success=success.success_rows(summary),
        tables=success.success_tables(summary.arms, summary.confidence),
        pairings=success.pairings(summary),
        held_out=success.held_out(summary),
        curves=[
            (stage, *curves.curve_groups(stage))
            for stage in summary.main.stages
            if stage.stage in ("laq", "pretrain", "finetune")
        ],
        analysis=summary.analysis.result,
        media=partial(meaning.shown_media, summary.analysis),
        meaning=meaning,
        shares=shares,
        reconstructions=sections.pictures_named(summary, "reconstruction"),
        atlases=sections.pictures_named(summary, "atlas"),
        sheets=sections.pictures_named(summary, "episodes"),
        pictures=sections.other_pictures(summary, "reconstruction", "atlas", "episodes"),
        lineage=sections.lineage(summary.main),
    )  # fmt: skip


def _usage(laq: StageSummary | None, run: RunConfig, health: CodeHealth) -> Markup:
    """The curve that shows a collapse, for the top of the page."""
    return curves.usage_chart(laq, run, health) if laq is not None and health.verdict == "collapsed" else Markup("")


def environment() -> Environment:
    """Templates with what they all use; everything is escaped, and a misspelt name is an error."""
    made = Environment(
        loader=PackageLoader("lapa.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "duration": sections.duration,
        "percent": _percent,
        "place": _place,
        "p_words": p_words,
        "breakable": _breakable,
        "when": lambda moment: moment[:16].replace("T", " "),
    }
    made.globals["style"] = Markup(made.get_template("style.css").render())
    return made


def _breakable(setting: str) -> Markup:
    """A long dotted name that may be broken where one would read on."""
    parts = [
        Markup("{}{}").format(part, Markup("<wbr>") if part in (".", "=") else "") for part in _BREAKS.split(setting)
    ]
    return Markup("").join(parts)


def _percent(share: float, digits: int = 0) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def _place(share: float) -> str:
    """Where a share lies on a track, as CSS."""
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
