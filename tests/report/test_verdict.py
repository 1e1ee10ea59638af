"""The page's first words: what went wrong, since when, what to change, what not to trust."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from lapa.analysis.results import write_analysis
from lapa.config.load import load_run
from lapa.report.analysis import find_analysis, with_media
from lapa.report.changes import Change
from lapa.report.findings import Finding
from lapa.report.findings_success import held_out
from lapa.report.page import build_report
from lapa.report.summary import ArmSummary, RunSummary, StageSummary
from lapa.report.verdict import Verdict, reach_verdict
from tests.report.example_analysis import write_analysis_files
from tests.report.example_run import SCORES, example_config, summarize, write_episodes, write_laq, write_run

COLLAPSIBLE = ["laq.model.quantizer.initialization=normal", "laq.model.quantizer.revival=null"]


def collapsed_run(work: Path, *, falls_at: int | None = None) -> RunSummary:
    run = write_run(work)
    write_laq(work, run.name, random.Random(0), 1.0, falls_at=falls_at)
    return summarize(work, run)


def settings_of(verdict: Verdict) -> list[str]:
    return [item for change in verdict.main.changes for item in change.sets]


def everything(verdict: Verdict) -> list[Change]:
    return [change for finding in (verdict.main, *verdict.others) for change in finding.changes]


def test_a_fallen_codebook_is_told_with_the_step_at_which_it_fell(tmp_path: Path) -> None:
    verdict = reach_verdict(collapsed_run(tmp_path, falls_at=1000))
    assert verdict.main.level == "wrong" and verdict.main.section == "codes"
    assert re.search(r"collapsed at step 1,000: .* after 4.\d codes had been in use", verdict.main.headline)
    assert any(item.startswith("laq.fit.optimizer.learning_rate=") for item in settings_of(verdict))


def test_a_codebook_that_never_lived_is_told_apart_from_one_that_fell(tmp_path: Path) -> None:
    verdict = reach_verdict(collapsed_run(tmp_path))
    assert "from the first validation on (step 200)" in verdict.main.headline
    assert not any("learning_rate" in item for item in settings_of(verdict))


def test_a_codebook_that_was_hardly_trained_needs_more_steps_before_anything_else(tmp_path: Path) -> None:
    summary = collapsed_run(tmp_path)
    short = load_run("tabletop", [f"work_url={tmp_path}", "laq.fit.steps=250"])
    [first, *others] = reach_verdict(summary.model_copy(update={"config": short})).main.changes
    assert first.sets == ("laq.fit.steps=2000",) and all(change.is_alternative for change in others)
    assert not any("laq.fit.steps" in item for item in settings_of(reach_verdict(summary)))


@pytest.mark.parametrize(("ratio", "level"), [(0.9, "fine"), (0.996, "doubt"), (1.2, "doubt")])
def test_actions_no_better_than_a_constant_answer_are_in_doubt(tmp_path: Path, ratio: float, level: str) -> None:
    evaluated = StageSummary(arm="tabletop", stage="evaluate", state="done", metrics={"held_out/ratio": ratio})
    summary = summarize(tmp_path, write_run(tmp_path))
    main = summary.main.model_copy(update={"stages": (evaluated,)})
    [finding] = held_out(summary.model_copy(update={"arms": (main,)}))
    assert finding.level == level


def with_laq(summary: RunSummary, **changes: Any) -> RunSummary:
    """Its latent-action stage changed: metrics replaced, histories added."""
    laq = summary.main.stage("laq")
    assert laq is not None
    changed = laq.model_copy(update=changes | {"history": {**laq.history, **changes.get("history", {})}})
    stages = tuple(changed if stage.stage == "laq" else stage for stage in summary.main.stages)
    main = summary.main.model_copy(update={"stages": stages})
    return summary.model_copy(update={"arms": (main, *summary.arms[1:])})


def codebook_finding(verdict: Verdict) -> Finding:
    [finding] = [item for item in (verdict.main, *verdict.others) if item.topic == "Codebook"]
    return finding


def test_a_repaired_codebook_is_told_with_what_made_it_collapse(tmp_path: Path) -> None:
    config = load_run("tabletop", [f"work_url={tmp_path}", *COLLAPSIBLE])
    summary = summarize(tmp_path, write_run(tmp_path)).model_copy(update={"config": config})
    history = {"train/repaired_codes": [(60, 8.0), (120, 8.0)]}
    repaired = codebook_finding(reach_verdict(with_laq(summary, history=history)))
    assert "had collapsed and was restarted 2 times (by step 120)" in repaired.headline
    assert [item for change in repaired.changes for item in change.sets][:2] == [
        "laq.model.quantizer.initialization=data", "laq.model.quantizer.revival.every=100",
    ]  # fmt: skip
    assert "collapsed" not in codebook_finding(reach_verdict(summary)).headline


def test_a_policy_that_solves_nothing_is_not_only_told_to_train_longer_on_a_repaired_codebook(tmp_path: Path) -> None:
    config = load_run("tabletop", [f"work_url={tmp_path}", *COLLAPSIBLE])
    run = write_run(tmp_path)
    for arm in SCORES:
        write_episodes(tmp_path / f"evaluate-{arm}00000", 0.0)
    summary = with_laq(summarize(tmp_path, run), history={"train/repaired_codes": [(60, 8.0)]})
    verdict = reach_verdict(
        summary.model_copy(update={"config": config, "arms": tuple(map(solving_nothing, summary.arms))})
    )
    assert verdict.main.headline.startswith("Neither the policy nor scratch solves a single episode")
    settings = settings_of(verdict)
    assert settings.index("laq.model.quantizer.initialization=data") < settings.index("pretrain.fit.steps=6400")


def solving_nothing(arm: ArmSummary) -> ArmSummary:
    stages = [
        stage.model_copy(update={"metrics": {**stage.metrics, "success_rate": 0.0}})
        if stage.stage == "evaluate"
        else stage
        for stage in arm.stages
    ]
    return arm.model_copy(update={"stages": tuple(stages)})


def test_positions_that_each_use_one_code_are_a_collapse_though_together_they_use_two(tmp_path: Path) -> None:
    summary = collapsed_run(tmp_path)
    history = {"validation/perplexity": [(200, 2.0), (2000, 2.0)]}
    history["validation/joint_perplexity"] = [(200, 1.0), (2000, 1.0)]
    verdict = reach_verdict(with_laq(summary, history=history, metrics={"perplexity": 2.0, "joint_perplexity": 1.0}))
    assert "The codebook collapsed" in verdict.main.headline


def test_what_a_collapse_spoils_is_named_and_marked_in_its_place(tmp_path: Path) -> None:
    summary = collapsed_run(tmp_path)
    assert set(reach_verdict(summary).distrust) == {"meaning", "curves", "success"}
    page = build_report(summary)
    assert page.count("Do not trust this section") == 4  # the pictures of codes too
    assert page.index("What not to trust below") < page.index("How good is the policy?</h2>")


def test_only_settings_that_the_run_has_otherwise_are_advised(tmp_path: Path) -> None:
    assert not any("initialization" in item for item in settings_of(reach_verdict(collapsed_run(tmp_path))))
    careless = load_run("tabletop", [f"work_url={tmp_path}", *COLLAPSIBLE])
    summary = summarize(tmp_path, careless.model_copy(update={"baselines": example_config(tmp_path).baselines}))
    advised = settings_of(reach_verdict(summary))
    assert advised[:2] == ["laq.model.quantizer.initialization=data", "laq.model.quantizer.revival.every=100"]


@pytest.mark.parametrize("preset", ["tabletop", "lapa", "lapa-paper"])
@pytest.mark.parametrize("perplexity", [1.0, 2.5])
def test_every_advised_setting_is_one_that_the_run_accepts(tmp_path: Path, preset: str, perplexity: float) -> None:
    write_run(tmp_path, perplexity=perplexity)
    run = load_run(preset, [f"work_url={tmp_path}", "name=tabletop"])
    run = run.model_copy(update={"baselines": {"scratch": {"seed": 1}}})
    changes = everything(reach_verdict(summarize(tmp_path, run)))
    assert changes
    for change in changes:
        load_run(preset, change.sets)


def test_a_policy_is_compared_with_scratch_on_the_same_initial_states(tmp_path: Path) -> None:
    verdict = reach_verdict(summarize(tmp_path, write_run(tmp_path)))
    assert verdict.main.level == "fine"
    assert verdict.main.headline.startswith("Pretraining on latent actions pays: 62% of the episodes are solved, 36%")
    assert "On the same 180 initial states" in verdict.main.why and "0 lost" in verdict.main.why
    assert verdict.distrust == {} and verdict.command == ""


@pytest.mark.parametrize(("rate", "level"), [(0.01, "doubt"), (0.4, "fine")])
def test_without_a_baseline_a_policy_that_solves_next_to_nothing_does_not_work(
    tmp_path: Path, rate: float, level: str
) -> None:
    summary = summarize(tmp_path, write_run(tmp_path))
    evaluate = summary.main.stage("evaluate")
    assert evaluate is not None
    measured = evaluate.model_copy(update={"metrics": {**evaluate.metrics, "success_rate": rate}})
    stages = (*(stage for stage in summary.main.stages if stage.stage != "evaluate"), measured)
    alone = summary.model_copy(update={"arms": (summary.main.model_copy(update={"stages": stages}),)})
    verdict = reach_verdict(alone)
    assert (verdict.main.topic, verdict.main.level) == ("Success", level)
    assert f"{rate:.0%} of the episodes" in verdict.main.headline


def test_other_initial_states_are_not_paired(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_episodes(tmp_path / "evaluate-scratch00000", SCORES["scratch"], seed=77)
    verdict = reach_verdict(summarize(tmp_path, run))
    assert "other initial states (180 from seed 10000 against 180 from seed 77)" in verdict.main.why
    assert "p (McNemar)" in build_report(summarize(tmp_path, run))


def test_a_difference_that_chance_explains_is_not_called_one(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_episodes(tmp_path / "evaluate-scratch00000", 0.62)
    verdict = reach_verdict(summarize(tmp_path, run))
    assert verdict.main.level == "doubt" and "No difference can be told" in verdict.main.headline
    assert settings_of(verdict)[0] == "evaluate.simulator.episodes=720"


def test_a_run_stopped_in_the_middle_says_where_and_how_to_go_on(tmp_path: Path) -> None:
    run = example_config(tmp_path)
    write_laq(tmp_path, run.name, random.Random(0), 5.0)
    (tmp_path / "laq-0000000000" / "result.json").unlink()
    verdict = reach_verdict(summarize(tmp_path, run))
    assert verdict.main.topic == "Progress"
    assert "stage laq has come to step 2,000 of 2,000" in verdict.main.headline


def test_a_loss_that_is_not_a_number_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    log = tmp_path / "pretrain-tabletop00000" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 1700, "time": 0, "metrics": {"train/total": null}}\n')
    verdict = reach_verdict(summarize(tmp_path, run))
    assert "stage pretrain diverged: the loss is not a number from step 1,700 on" in verdict.main.headline


def test_codes_that_tell_no_motion_are_in_doubt(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    told = {
        r2: reach_verdict(summarize(tmp_path, run, with_media(write_analysis_files(tmp_path / f"analysis-{r2}", r2))))
        for r2 in (0.8, 0.1)
    }
    meaning = {r2: next(f for f in verdict.others if f.topic == "Meaning") for r2, verdict in told.items()}
    assert meaning[0.8].level == "fine" and "80%" in meaning[0.8].headline
    assert meaning[0.1].level == "doubt" and "laq.supervision.share=0.02" in meaning[0.1].changes[2].sets


@pytest.mark.parametrize("leak", [0.1, 0.6])
def test_a_motion_mask_is_the_first_advice_where_camera_and_light_pour_into_the_codes(
    tmp_path: Path, leak: float
) -> None:
    found = with_media(write_analysis_files(tmp_path / "analysis", 0.1, leak))
    verdict = reach_verdict(summarize(tmp_path, write_run(tmp_path), found))
    [meaning] = [finding for finding in verdict.others if finding.topic == "Meaning"]
    assert meaning.changes[0].sets == ("laq.model.target.motion_mask=0.8",)
    assert meaning.changes[0].is_alternative is (leak < 0.2)
    assert ("Camera and light explain 60%" in meaning.why) is (leak > 0.2)


def test_the_fullest_analysis_is_found_though_a_single_picture_is_newer(tmp_path: Path) -> None:
    full = write_analysis_files(tmp_path / "analysis-aaaaaaaaaa")
    for folder, finished in (("analysis-bbbbbbbbbb", "2026-01-02"), ("analysis-cccccccccc", "2026-01-03")):
        more = {"folder": str(tmp_path / folder), "finished": f"{finished}T10:00:00+00:00"}
        less = {} if folder.endswith("b") else {"probes": {}, "media": full.media[:1]}
        write_analysis(full.model_copy(update={**more, **less}))
    write_analysis(full)
    found = find_analysis(str(tmp_path), "d" * 48)
    assert found is not None and found.folder.endswith("analysis-bbbbbbbbbb")


def test_analyses_are_shown_with_their_pictures_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_analysis(write_analysis_files(tmp_path / "analysis-aaaaaaaaaa"))
    found = find_analysis(str(tmp_path), "d" * 48)
    assert found is not None and find_analysis(str(tmp_path), "other") is None
    page = build_report(summarize(tmp_path, run, with_media(found)))
    assert 'src="data:video/mp4;base64,' in page and 'poster="data:image/png;base64,' in page
    assert "Codes over instructions" in page and "3·1" in page and "The across" not in page
    assert "control: motion of any other pair" in page and "only one dataset" in page
