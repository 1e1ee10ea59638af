"""Which stages run, and when one need not."""

import pytest

from lapa.config.load import arms, load_run, merge, nested, resolve
from lapa.stages.plan import NotMadeYet, dataset_url, fingerprint, finished, inputs_of, plan, stage_folder, unchanged
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
