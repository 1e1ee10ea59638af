"""The study of collapse: what its recipes share, and how runs are counted."""

import pytest

from lapa.bench.collapse import collapse_markdown, collapse_runs, collapse_table, has_collapsed
from lapa.stages.plan import stage_settings
from lapa.stages.results import StageResult

HEALTHY = {"perplexity": 6.0, "joint_perplexity": 40.0, "dead_share": 0.0, "quantization_error": 0.2}
DEAD = {"perplexity": 1.1, "joint_perplexity": 1.2, "dead_share": 0.75, "quantization_error": 90.0}
FROZEN = {"perplexity": 4.0, "joint_perplexity": 1.0, "dead_share": 0.5, "quantization_error": 2.0}


def result(name: str, metrics: dict[str, float]) -> StageResult:
    return StageResult(stage="laq", name=name, fingerprint="", folder="", inputs={}, outputs={}, metrics=metrics)


def test_recipes_differ_in_the_codebook_and_the_layout_alone() -> None:
    paper, lapa, _ = collapse_runs(1)
    ours, theirs = (stage_settings(run, "laq")["settings"] for run in (lapa, paper))
    assert theirs["model"]["architecture"].pop("released_layout") is True
    assert ours["model"]["architecture"].pop("released_layout") is False
    assert theirs["model"].pop("quantizer")["initialization"] == "normal"
    assert ours["model"].pop("quantizer")["initialization"] == "data"
    assert ours == theirs


def test_every_recipe_runs_with_every_seed_on_the_same_videos() -> None:
    runs = collapse_runs(10)
    assert len({run.name for run in runs}) == 30 and {run.seed for run in runs} == set(range(10))
    assert len({run.videos.model_dump_json() for run in runs}) == 1


@pytest.mark.parametrize(("metrics", "collapsed"), [(HEALTHY, False), (DEAD, True), (FROZEN, True)])
def test_few_codes_or_few_latent_actions_count_as_collapse(metrics: dict[str, float], collapsed: bool) -> None:
    assert has_collapsed(metrics) is collapsed


def test_the_table_counts_collapsed_runs_and_takes_medians() -> None:
    results = [
        result("collapse.lapa.0", HEALTHY),
        result("collapse.lapa-paper.0", DEAD),
        result("collapse.lapa-paper.1", FROZEN),
        result("collapse.lapa-paper.2", {**HEALTHY, "probe_r2/additive": 0.25}),
    ]
    paper, lapa = collapse_table(results)
    assert (paper.arm, paper.runs, paper.collapsed) == ("lapa-paper", 3, 2)
    assert (paper.perplexity, paper.joint_perplexity, paper.dead_share, paper.r2) == (4.0, 1.2, 0.5, 0.25)
    assert (lapa.arm, lapa.runs, lapa.collapsed, lapa.r2) == ("lapa", 1, 0, None)
    assert "| lapa-paper | 2 of 3 (21% to 94%) | 4.00 | 1.2 | 50% | 2 | 0.25 |" in collapse_markdown([paper, lapa])
