"""The table as one self-contained HTML page: no request leaves it."""

from importlib.resources import files as package_files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lapa.bench.ablation_grid import ablation_grid
from lapa.bench.answers import answer_grid, caution, unfinished
from lapa.bench.grids import code_grid, distractor_grid, facts, setting_parts, time_grid
from lapa.bench.picture import draw_setting
from lapa.bench.results import BenchTable


def as_page(table: BenchTable) -> str:
    """Everything that came from data is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    drawn = [(setting, draw_setting(table, setting)) for setting in table.settings]
    return environment.from_string(_resource("page.html.j2")).render(
        table=table,
        caution=caution(table),
        unfinished=unfinished(table),
        answers=answer_grid(table),
        ablations=ablation_grid(table),
        style=Markup(_resource("page.css")),
        pictures=[(setting, picture) for setting, picture in drawn if picture],
        parts=list(setting_parts(table)),
        distractors=distractor_grid(table),
        codes=code_grid(table),
        times=time_grid(table),
        facts=facts(table),
    )


def _resource(name: str) -> str:
    return package_files("lapa.bench").joinpath("templates", name).read_text(encoding="utf-8")
