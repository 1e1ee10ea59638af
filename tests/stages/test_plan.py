"""Which stages run, and when one need not."""

import pytest

from lapa.config.load import arms, load_run, merge, nested, resolve
from lapa.stages.plan import (
    NotMadeYet,
    dataset_url,
    fingerprint,
    finished,
    inputs_of,
    plan,
    stage_folder,
    stages_of,
    unchanged,
)
from lapa.stages.results import Artifact, StageResult, write_result
from tests.builders import make_dataset


@pytest.fixture
def run(tmp_path):
    """A run over two existing datasets."""
    videos = make_dataset(tmp_path / "videos", episodes=2, frames=6)
    robot = make_dataset(tmp_path / "robot", episodes=3, frames=6, actions=True)
    settings = [f"work_url={tmp_path / 'work'}", "videos.kind=dataset", f"videos.url={videos}"]
    return load_run("tabletop", [*settings, "robot.kind=dataset", f"robot.url={robot}"])


def complete(run, stage, **digests):
    """Leave a result as the stage would."""
    write_result(
        StageResult(
            stage=stage,
            name=run.name,
            fingerprint=fingerprint(run, stage),
            folder=stage_folder(run, stage),
            inputs=inputs_of(run, stage),
            outputs={name: Artifact(url=f"somewhere/{name}", digest=digest) for name, digest in digests.items()},
        )
    )


def test_a_run_and_its_baseline_share_the_stages_they_have_in_common():
    stages = [(item.stage, item.name) for item in plan(load_run("tabletop"))]
    assert stages == [
        ("ingest", "tabletop"),
        ("laq", "tabletop"),
        ("label", "tabletop"),
        ("pretrain", "tabletop"),
        ("finetune", "tabletop"),
        ("finetune", "scratch"),
        ("evaluate", "tabletop"),
        ("evaluate", "scratch"),
    ]


def test_a_stage_without_its_input_names_the_stage_to_run_first(run):
    with pytest.raises(NotMadeYet, match="lapactl run laq"):
        inputs_of(run, "label")


def test_a_stage_is_found_complete_until_a_setting_of_it_changes(run):
    complete(run, "laq", model="m1")
    assert finished(run, "laq") is not None
    assert finished(run.model_copy(update={"seed": 1}), "laq") is None
    assert finished(load_run_with(run, "laq.fit.steps", 7), "laq") is None


def test_how_a_stage_runs_does_not_change_what_it_makes(run):
    assert fingerprint(run, "laq") == fingerprint(load_run_with(run, "laq.stream.workers", 2), "laq")


def test_another_input_makes_another_result(run):
    complete(run, "laq", model="m1")
    first = fingerprint(run, "label")
    complete(run, "laq", model="m2")
    assert fingerprint(run, "label") != first


def test_a_baseline_does_not_read_the_pretrained_model(run):
    assert "pretrain" not in inputs_of(arms(run)["scratch"], "finetune")


def test_what_is_trained_on_latent_actions_names_the_model_that_made_them(run):
    kept = load_run_with(run, "finetune.latent_loss_weight", 0.5)
    complete(kept, "laq", model="m1")
    complete(kept, "label", labels="l1", **{"robot-labels": "r1"})
    complete(kept, "pretrain", model="p1")
    assert inputs_of(kept, "pretrain")["laq"].digest == "m1"
    assert inputs_of(kept, "finetune")["laq"].digest == "m1"


def vpt(run):
    settings = merge(run.model_dump(mode="json"), nested("laq.labeller", "inverse-dynamics"))
    return resolve(merge(settings, nested("pretrain.target.kind", "labelled-actions")))


def test_another_labeller_makes_labels_and_all_that_follows_again(run):
    other = vpt(run)
    for arm, model in ((run, "m1"), (other, "m2")):
        complete(arm, "laq", model=model)
        complete(arm, "label", labels=f"labels-of-{model}")
        complete(arm, "pretrain", model=f"pretrained-on-{model}")
    assert set(inputs_of(other, "laq")) == {"robot"} and set(inputs_of(run, "laq")) >= {"videos"}
    for stage in ("laq", "label", "pretrain", "finetune"):
        assert stage_folder(run, stage) != stage_folder(other, stage), stage


def test_settings_of_the_labeller_that_is_not_chosen_change_nothing(run):
    supervised = vpt(run)
    assert fingerprint(run, "laq") == fingerprint(load_run_with(run, "laq.inverse_dynamics.width", 7), "laq")
    assert fingerprint(supervised, "laq") == fingerprint(load_run_with(supervised, "laq.fit.steps", 7), "laq")
    assert fingerprint(supervised, "laq") != fingerprint(
        load_run_with(supervised, "laq.inverse_dynamics.width", 7), "laq"
    )


def test_recorded_actions_share_ingest_alone(run):
    recorded = load_run_with(run, "pretrain.target.kind", "recorded-actions")
    assert stages_of(recorded) == ["ingest", "pretrain", "finetune", "evaluate"]
    assert set(inputs_of(recorded, "pretrain")) == {"videos"}, "what is not made yet is not asked for"
    both = run.model_copy(update={"baselines": {"actionvla": {"pretrain.target.kind": "recorded-actions"}}})
    shared = [item.stage for item in plan(both) if item.name == run.name]
    assert shared == ["ingest", "laq", "label", "pretrain", "finetune", "evaluate"]
    assert [item.stage for item in plan(both) if item.name == "actionvla"] == ["pretrain", "finetune", "evaluate"]


def test_what_the_labels_are_made_with_does_not_divide_what_does_not_read_them(run):
    """One ActionVLA and one Scratch serve any number of latent-action models."""
    recorded = {"pretrain.target.kind": "recorded-actions"}
    scratch = {"pretrain": None, "finetune.backbone": run.pretrain.backbone.model_dump(mode="json")}
    other = {"laq.fit.steps": 7}
    arms = {"a": recorded, "b": recorded | other, "c": scratch, "d": scratch | other}
    planned = plan(run.model_copy(update={"baselines": arms}))
    assert [item.name for item in planned if item.stage == "finetune"] == [run.name, "a", "c"]


def test_shuffled_codes_share_their_labels(run):
    shuffled = run.model_copy(update={"baselines": {"shuffled": {"pretrain.target.shuffled": True}}})
    names = [item.stage for item in plan(shuffled) if item.name == "shuffled"]
    assert names == ["pretrain", "finetune", "evaluate"]


def test_ingest_looks_again_at_files_that_others_may_change(run, tmp_path):
    complete(run, "ingest")
    assert unchanged(run, "ingest") is not None
    (tmp_path / "clips").mkdir()
    outside = load_run("bridge-sample", [f"work_url={tmp_path / 'work'}", f"videos.source.url={tmp_path / 'clips'}"])
    assert unchanged(outside, "ingest") is None


def load_run_with(run, key, value):
    return resolve(merge(run.model_dump(mode="json"), nested(key, value)))


def test_tolerating_more_failures_continues_the_same_dataset():
    strict, lenient = (load_run("bridge-sample", [f"videos.max_failed_share={share}"]) for share in (0, 0.5))
    assert dataset_url(strict, strict.videos) == dataset_url(lenient, lenient.videos)


def test_an_rlds_dataset_goes_by_its_name_and_not_its_version():
    run = load_run("bridge-sample")
    assert "/bridge_dataset-" in dataset_url(run, run.robot)
    plain = load_run("bridge-sample", ["robot.source.url=my-episodes"])
    assert "/my-episodes-" in dataset_url(plain, plain.robot)


def test_a_baseline_without_codes_is_made_for_its_latent_action_model_alone():
    withheld = {"laq.model.quantizer": {"kind": "withheld", "width": 8}, "pretrain": None, "finetune": None}
    run = load_run("tabletop").model_copy(update={"baselines": {"floor": withheld}})
    assert [item.stage for item in plan(run) if item.name == "floor"] == ["laq"]
