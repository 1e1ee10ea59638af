"""The report of a promotion as one HTML page that needs no other file."""

from lapa.errors import MissingDependency
from lapa.promotion.verdicts import PromotionReport


def report_page(report: PromotionReport) -> str:
    """Everything that came from data is escaped."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependency("A promotion's report needs jinja2: `pip install 'lapa[train]'`.") from error

    templates = Environment(
        loader=PackageLoader("lapa.promotion"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html.j2").render(report=report, headline=headline(report))


def headline(report: PromotionReport) -> str:
    """The outcome in a word. The report is kept before any alias moves, so it does not say that one did."""
    if not report.passes:
        return "refused"
    return "passed by force" if report.forced else "passed its gates"
