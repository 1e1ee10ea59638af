"""Runs side by side."""

import json
from pathlib import Path

from lapa.config.run import RunConfig
from lapa.report.compare import build_comparison
from lapa.report.comparison import compare_runs, plain
from lapa.report.summary import AnalysisSummary, RunSummary
from lapa.stages.compare import main as compare_stage
from tests.report.example_analysis import write_analysis_files
from tests.report.example_run import summarize, write_episodes, write_run


def two_runs(tmp_path: Path) -> tuple[RunSummary, RunSummary]:
    """The second one with fewer codes in use and less success."""
    first = summarize(tmp_path / "a", write_run(tmp_path / "a"))
    run = write_run(tmp_path / "b", perplexity=1.0)
    write_episodes(tmp_path / "b" / "evaluate-tabletop00000", 0.3)
    other = RunConfig.model_validate({**run.model_dump(), "name": "collapsed", "seed": 3})
    summary = summarize(tmp_path / "b", run)
    main = summary.main.model_copy(update={"name": "collapsed"})
    return first, summary.model_copy(update={"name": "collapsed", "config": other, "arms": (main, *summary.arms[1:])})


def test_runs_are_paired_on_their_initial_states_and_differ_in_what_differs(tmp_path: Path) -> None:
    comparison = compare_runs(two_runs(tmp_path))
    (pairing,) = comparison.pairings
    assert pairing.comparison is not None
    assert (pairing.comparison.wins, pairing.comparison.losses) == (123 - 60, 0)
    assert comparison.settings == [("seed", ["0", "3"])]
    assert [verdict.main.level for verdict in comparison.verdicts] == ["fine", "wrong"]


def test_the_page_overlays_the_curves_and_lists_the_numbers(tmp_path: Path) -> None:
    page = build_comparison(compare_runs(two_runs(tmp_path)))
    assert "Codes in use (perplexity)" in page and "collapsed below 1.5" in page
    assert "tabletop against collapsed" in page and "By split" in page
    assert "joint_coverage" in page and "<script" not in page


def test_the_comparison_is_plain_json_with_one_entry_per_run(tmp_path: Path) -> None:
    told = json.loads(json.dumps(plain(compare_runs(two_runs(tmp_path))), allow_nan=False))
    assert [run["name"] for run in told["runs"]] == ["tabletop", "collapsed"]
    assert told["stages"]["laq"]["metrics"]["perplexity"] == {"tabletop": 5.3, "collapsed": 1.0}
    assert told["paired"][0]["wins"] == 63 and told["settings"] == {"seed": {"tabletop": "0", "collapsed": "3"}}


def test_what_was_probed_is_laid_side_by_side_and_what_was_not_is_left_open(tmp_path: Path) -> None:
    first, second = two_runs(tmp_path)
    probed = AnalysisSummary(result=write_analysis_files(tmp_path / "analysis", r2=0.7))
    comparison = compare_runs([first.model_copy(update={"analysis": probed}), second])
    told = json.loads(json.dumps(plain(comparison), allow_nan=False))["probes"]
    name = "robot: R² of actions, linear map from codes, one by one"
    assert told[name] == {"tabletop": 0.7, "collapsed": None}
    assert {"robot: bits of motion that latent actions tell", "robot: latent actions in use (perplexity)"} <= set(told)
    page = build_comparison(comparison)
    assert name in page and "None of these models was probed" not in page
    assert "None of these models was probed" in build_comparison(compare_runs([first, second]))


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    summary = summarize(tmp_path, write_run(tmp_path))
    comparison = compare_runs([summary, summary])
    assert comparison.names == ["tabletop (1)", "tabletop (2)"]
    assert all(table.rows for table in comparison.stages)


def test_runs_that_have_not_begun_can_be_compared_by_their_settings(tmp_path: Path, capsys) -> None:
    from lapa.config.load import load_run

    runs = [load_run("tabletop", [f"work_url={tmp_path}"]), "tabletop-smoke", f"work_url={tmp_path}"]
    compare_stage(runs[0], runs[1:])
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["laq.fit.steps"] == {"tabletop": "2000", "tabletop-smoke": "30"}
    assert told["paired"][0]["why_not"] == "tabletop has no closed-loop episodes"
    assert Path(told["page"]).read_text().startswith("<!DOCTYPE html>")


def test_a_baseline_that_runs_share_is_shown_once(tmp_path: Path) -> None:
    summary = summarize(tmp_path, write_run(tmp_path))
    page = build_comparison(compare_runs([summary, summary]))
    assert page.count("scratch of tabletop (1)") > 0 and "scratch of tabletop (2)" not in page
