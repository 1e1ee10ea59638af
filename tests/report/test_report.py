"""The report page, built from invented runs on disk."""

import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.files import upload
from lapa.report.analysis import with_media
from lapa.report.axes import number, ticks
from lapa.report.charts import Chart, Reference, draw
from lapa.report.collect import collect_run
from lapa.report.compare import build_comparison
from lapa.report.comparison import compare_runs
from lapa.report.health import judge
from lapa.report.page import build_report
from lapa.report.settings import nearest_preset
from lapa.report.summary import StageSummary
from tests.report.example_analysis import write_analysis_files
from tests.report.example_run import (
    INSTRUCTIONS,
    example_config,
    folders_of,
    summarize,
    write_dataset,
    write_laq,
    write_run,
)

HOSTILE = '<script>alert(\'x\')</script> & "push" \' onclick="x()"'


class Links(HTMLParser):
    """Every address a browser would fetch, every element and every event handler seen."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        for name, value in attributes:
            is_link = name == "href" and tag == "a"
            if name in ("src", "href", "srcset", "data", "poster") and not is_link:
                self.fetched.append(value or "")


def parsed(html: str) -> Links:
    links = Links()
    links.feed(html)
    return links


@pytest.fixture
def report(tmp_path: Path) -> tuple[RunConfig, str]:
    run = write_run(tmp_path)
    return run, build_report(summarize(tmp_path, run))


def test_the_page_needs_nothing_but_itself(report: tuple[RunConfig, str]) -> None:
    links = parsed(report[1])
    assert links.fetched and all(address.startswith("data:") for address in links.fetched)
    assert "script" not in links.tags and "link" not in links.tags and "iframe" not in links.tags
    assert not re.search(r"url\(|@import", report[1])


def test_the_page_tells_success_with_intervals_for_every_arm(report: tuple[RunConfig, str]) -> None:
    html = report[1]
    assert "62.0 %</b> [54.9, 69.1]" in html
    assert "36.0 %</b> [29.0, 43.0]" in html
    assert "scripted oracle" in html and "97.8 %" in html
    assert html.index("62.0 %") < html.index("51.0 %") < html.index("36.0 %") < html.index("97.8 %")
    assert "pretrain = null" in html


def test_the_page_tells_data_lineage_times_and_how_to_repeat(report: tuple[RunConfig, str]) -> None:
    html = report[1]
    for expected in ("CC0-1.0", "4 min 26 s", "x86_64, 2 cores", "lapactl run run.yaml", "min_perplexity"):
        assert expected in html
    assert all(text in html for text in INSTRUCTIONS)
    made = set(re.findall(r'id="made-([0-9a-f]+)"', html))
    used = set(re.findall(r'href="#made-([0-9a-f]+)"', html))
    assert used and used <= made
    assert html.count('class="thumbs"') == 2 and html.count("image/jpeg") == 6


def test_text_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    dataset = tmp_path / "datasets" / "videos"
    for file in dataset.rglob("*"):
        if file.is_file():
            file.unlink()
    (dataset / "shards").rmdir()
    write_dataset(dataset, has_actions=False, instructions=(HOSTILE, "<img src=http://evil/x>"))
    html = build_report(summarize(tmp_path, run))
    assert "<script" not in html and "&lt;script&gt;" in html
    assert all(address.startswith("data:") for address in parsed(html).fetched)


def test_a_collapsed_codebook_is_called_collapsed_with_advice(tmp_path: Path) -> None:
    run = write_run(tmp_path, perplexity=1.1)
    html = build_report(summarize(tmp_path, run)).replace("<wbr>", "")
    assert 'class="verdict wrong"' in html
    assert "laq.window_seconds" in html and "kind=fsq" in html


def test_a_run_that_has_not_begun_is_a_page_too(tmp_path: Path) -> None:
    html = build_report(summarize(tmp_path, example_config(tmp_path)))
    assert html.count("not yet run") >= 6
    assert "No dataset has been ingested yet" in html
    assert "Not known yet" in html


def test_a_stage_under_way_shows_its_curves(tmp_path: Path) -> None:
    run = example_config(tmp_path)
    write_laq(tmp_path, run.name, random.Random(0), 5.0)
    folder = tmp_path / "laq-0000000000"
    (folder / "result.json").unlink()
    html = build_report(summarize(tmp_path, run))
    assert "not finished" in html
    assert "Codes in use (perplexity)" in html
    assert "The codebook is healthy" in html


def test_shared_stages_of_a_baseline_are_not_called_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    vpt = next(arm for arm in summarize(tmp_path, run).arms if arm.name == "vpt")
    assert {stage.stage: stage.state for stage in vpt.stages}["pretrain"] == "done"


def test_only_the_newest_picture_of_a_kind_is_shown(tmp_path: Path) -> None:
    summary = summarize(tmp_path, write_run(tmp_path))
    laq = summary.main.stage("laq")
    assert laq is not None
    assert [picture.name for picture in laq.pictures] == ["code-atlas", "reconstruction"]


RUN = load_run("tabletop")


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ({"perplexity": 6.0}, "healthy"),
        ({"perplexity": 1.2}, "collapsed"),
        ({"perplexity": 2.5}, "weak"),
        ({"perplexity": 6.0, "dead_share": 0.5}, "weak"),
        ({"perplexity": 6.0, "relative_error": 1.05}, "weak"),
        ({}, "unknown"),
    ],
)
def test_the_verdict_follows_from_the_numbers(metrics: dict[str, float], verdict: str) -> None:
    stage = StageSummary(arm="a", stage="laq", state="done", metrics=metrics)
    health = judge(stage, RUN)
    assert health.verdict == verdict
    assert bool(health.changes) == (verdict in ("collapsed", "weak"))


def test_a_position_that_is_not_used_makes_a_codebook_weak() -> None:
    history = {"validation/perplexity/position-0": [(10, 7.0)], "validation/perplexity/position-1": [(10, 1.0)]}
    stage = StageSummary(arm="a", stage="laq", state="done", metrics={"perplexity": 6.0}, history=history)
    assert "position 1 says almost nothing" in judge(stage, RUN).headline


def test_axes_have_round_ticks() -> None:
    assert ticks(0, 8) == [0, 2, 4, 6, 8]
    assert ticks(13, 1990) == [500, 1000, 1500]
    assert ticks(-0.25, 1) == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (20, "20"), (0.5, "0.5"), (100_000, "100k"), (0.00012, "1.2e-4"), (float("nan"), "n/a")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    "points",
    [[(5, 1.0)], [(0, 3.0), (10, 3.0)], [(0, float("nan")), (1, 2.0)], [(i, 10.0**-i) for i in range(8)],
     [(i, -1.0) for i in range(1000)]],
)  # fmt: skip
def test_any_curve_can_be_drawn(points: list[tuple[int, float]]) -> None:
    svg = draw(Chart(title="x", series={"a": points}, references=(Reference(value=1.0, label="line"),)))
    assert "<path" in svg and "nan" not in svg.replace("n/a", "")


def test_a_curve_without_numbers_is_no_chart() -> None:
    assert draw(Chart(title="x", series={"a": [(0, float("nan"))], "b": []})) == ""


def test_a_run_in_an_object_store_is_a_page_too(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    store = "memory://report-of-a-run/work"
    upload(tmp_path, store)
    remote = {
        arm: {stage: url and url.replace(str(tmp_path), store) for stage, url in stages.items()}
        for arm, stages in folders_of(tmp_path, run).items()
    }
    shutil.rmtree(tmp_path)
    html = build_report(collect_run(run.model_copy(update={"work_url": store}), remote))
    assert html.count('class="thumbs"') == 2 and html.count("image/jpeg") == 6
    assert "62.0 %</b> [54.9, 69.1]" in html and "The codebook is healthy" in html


def test_a_work_folder_that_was_moved_still_shows_its_data(tmp_path: Path) -> None:
    run = write_run(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    html = build_report(summarize(tmp_path / "after", run))
    assert html.count('class="thumbs"') == 2


def test_every_picture_has_words_and_the_page_can_be_walked_by_keyboard(report: tuple[RunConfig, str]) -> None:
    html = report[1]
    assert html.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]+"', html)) > 5
    assert html.count("<svg ") == len(re.findall(r"<svg [^>]*(?:aria-label=|aria-hidden=)", html)) > 5
    assert 'href="#content"' in html and html.count('tabindex="0"') == html.count('<div class="wide" tabindex="0"') + 2
    for section in re.findall(r'<a href="#([a-z]+)">', html):
        assert f'id="{section}"' in html


def test_settings_that_differ_from_the_preset_are_listed(report: tuple[RunConfig, str]) -> None:
    run = load_run("tabletop", ["laq.window_seconds=0.5", "laq.model.quantizer.revival=null", "name=mine"])
    difference = nearest_preset(run)
    changed = {change.key: (change.before, change.value) for change in difference.changes}
    assert difference.preset == "tabletop"
    assert changed["laq.window_seconds"] == ("0.3", "0.5")
    assert {key for key in changed if "revival" in key} >= {"laq.model.quantizer.revival.every"}
    assert "All as in the preset" in report[1]


def test_success_is_told_by_split_and_by_kind(report: tuple[RunConfig, str]) -> None:
    html = report[1]
    assert "By split" in html and "unseen object" in html and "By kind of task" in html
    assert "On the same initial states" in html and "tabletop against scratch" in html


def test_no_text_from_anywhere_can_become_markup(tmp_path: Path) -> None:
    """Instructions of episodes, what analyses quote, names of runs and arms, words of stages."""
    run = write_run(tmp_path)
    found = write_analysis_files(tmp_path / "analysis-0")
    confusion = found.confusions[0].model_copy(update={"rows": (HOSTILE, HOSTILE), "columns": (HOSTILE, "0")})
    media = tuple(
        item.model_copy(update={"title": HOSTILE, "caption": HOSTILE, "alt": HOSTILE}) for item in found.media
    )
    report = found.probes["robot"].model_copy(update={"messages": (HOSTILE,)})
    changes = {"confusions": (confusion,), "media": media, "probes": {HOSTILE: report}, "skipped": {HOSTILE: HOSTILE}}
    summary = summarize(tmp_path, run, with_media(found.model_copy(update=changes)))
    arms = tuple(
        arm.model_copy(
            update={
                "name": HOSTILE,
                "outcomes": tuple(outcome.model_copy(update={"instruction": HOSTILE, "split": HOSTILE})
                                  for outcome in arm.outcomes[:90]) + arm.outcomes[90:],
                "stages": tuple(stage.model_copy(update={"messages": (HOSTILE,), "hardware": HOSTILE})
                                for stage in arm.stages),
            }
        )
        for arm in summary.arms
    )  # fmt: skip
    hostile = summary.model_copy(update={"name": HOSTILE, "arms": arms, "command": HOSTILE})
    for page in (build_report(hostile), build_comparison(compare_runs([hostile, hostile]))):
        assert page.count("&lt;script&gt;") > 5
        links = parsed(page)
        assert "script" not in links.tags and all(address.startswith("data:") for address in links.fetched)
        assert not links.handlers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_training_whose_numbers_went_wild_is_a_page_too(tmp_path: Path, value: float) -> None:
    summary = summarize(tmp_path, write_run(tmp_path))
    stages = tuple(
        stage.model_copy(
            update={
                "metrics": {
                    name: number if "success" in name or "episodes" in name else value
                    for name, number in stage.metrics.items()
                },
                "history": {name: [(step, value) for step, _ in points] for name, points in stage.history.items()},
            }
        )
        for stage in summary.main.stages
    )
    broken = summary.model_copy(
        update={"arms": (summary.main.model_copy(update={"stages": stages}), *summary.arms[1:])}
    )
    assert build_report(broken).endswith("</html>")
    assert build_comparison(compare_runs([broken, summary])).endswith("</html>")


def test_datasets_that_cannot_be_read_are_left_out_of_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "datasets" / "videos" / "dataset.json").write_text('{"schema_version": 99}')
    (tmp_path / "datasets" / "robot" / "shards" / "shard-00000.tar").write_bytes(b"")
    html = build_report(summarize(tmp_path, run))
    assert html.count('class="thumbs"') == 1 and "image/jpeg" not in html
