"""The pages in a real browser, at the width of a phone and of a desktop."""

import random
from pathlib import Path

import pytest

from lapa.report.analysis import with_media
from lapa.report.compare import build_comparison
from lapa.report.comparison import compare_runs
from lapa.report.page import build_report
from tests.report.browser import Seen, open_page
from tests.report.example_analysis import write_analysis_files
from tests.report.example_run import summarize, write_laq, write_run

MAX_BYTES = 3_000_000


def write_page(tmp_path: Path, kind: str) -> Path:
    run = write_run(tmp_path)
    if kind == "collapsed":
        write_laq(tmp_path, run.name, random.Random(0), 1.0)
    summary = summarize(tmp_path, run, with_media(write_analysis_files(tmp_path / "analysis-0")))
    page = tmp_path / "page" / f"{kind}.html"
    page.parent.mkdir()
    page.write_text(build_comparison(compare_runs([summary] * 3)) if kind == "comparison" else build_report(summary))
    return page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["report", "collapsed", "comparison"])
def test_a_page_fits_its_window_asks_for_nothing_and_has_no_errors(tmp_path: Path, kind: str, width: int) -> None:
    page = write_page(tmp_path, kind)
    assert page.stat().st_size < MAX_BYTES
    seen = open_page(page, width=width)
    assert seen.width <= width
    assert seen.console == [] and seen.broken == 0
    assert seen.pictures > 5 or kind == "comparison"
    assert set(seen.requested) <= {"/probe.html", f"/{page.name}", "/favicon.ico"}


def test_the_browser_check_sees_what_it_is_for(tmp_path: Path) -> None:
    """A page that is too wide, loads a picture from elsewhere and throws."""
    page = tmp_path / "bad.html"
    page.write_text('<div style="width:700px">wide</div><img src="gone.png"><script>throw new Error("x")</script>')
    seen: Seen = open_page(page, width=390)
    assert seen.width >= 700 and seen.broken == 1 and "/gone.png" in seen.requested
    assert any("Error: x" in line for line in seen.console)
