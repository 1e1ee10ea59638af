"""One self-contained HTML page for a run: no request leaves it, and it can be mailed as one file."""

from importlib.resources import files as package_files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lapa.report import sections
from lapa.report.charts import number
from lapa.report.health import judge
from lapa.report.summary import RunSummary


def build_report(summary: RunSummary) -> str:
    """The page. Everything that came from data is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "duration": sections.duration}
    laq = summary.main.stage("laq")
    kinds_arms, kinds = sections.success_by_kind(summary)
    return environment.from_string(_resource("page.html.j2")).render(
        run=summary,
        style=Markup(_resource("style.css")),
        facts=sections.headline_numbers(summary),
        health=judge(laq, summary.codebook),
        laq=laq,
        codebook_charts=sections.codebook_charts(laq, summary.codebook),
        success=sections.success_rows(summary),
        kinds_arms=kinds_arms,
        kinds=kinds,
        held_out=sections.held_out(summary),
        curves=[
            (stage, *sections.curve_groups(stage)) for stage in summary.main.stages if stage.stage in sections.TRAINED
        ],
        reconstructions=sections.pictures_named(summary, "reconstruction"),
        atlases=sections.pictures_named(summary, "atlas"),
        episodes=sections.pictures_named(summary, "episodes"),
        pictures=sections.other_pictures(summary, "reconstruction", "atlas", "episodes"),
        lineage=sections.lineage(summary.main),
    )


def _resource(name: str) -> str:
    return package_files("lapa.report").joinpath(name).read_text(encoding="utf-8")
