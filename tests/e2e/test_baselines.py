"""The benchmark's baselines as settings of the same programs, made in the order in which `lapactl run` makes them."""

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lapa.config.load import arms, changed, load_run
from lapa.config.run import RunConfig
from lapa.stages.plan import PlannedStage, finished, plan
from lapa.stages.results import StageResult
from tests.builders import make_dataset
from tests.e2e.programs import tiny_run, write_run

HEAD = {"kind": "binned", "bins": 8, "decode": "mean"}
VPT = {
    "laq.labeller": "inverse-dynamics",
    "laq.inverse_dynamics": {
        "image_size": 24, "width": 8, "blocks": [1, 1], "fit": {"steps": 8, "batch_size": 16, "validate_every": 8},
    },
    "pretrain.target": {"kind": "labelled-actions", "head": HEAD},
}  # fmt: skip
ACTIONVLA = {"pretrain.target": {"kind": "recorded-actions", "head": HEAD}}
UNTOUCHED = {
    **ACTIONVLA, "finetune.keep_head": True, "finetune.head": HEAD, "finetune.fit.steps": 0,
}  # fmt: skip
BASELINES = {
    "vpt": VPT,
    "actionvla": ACTIONVLA,
    "actionvla-untouched": UNTOUCHED,
    "shuffled": {"pretrain.target.shuffled": True},
    "scratch": {"pretrain": None, "finetune.backbone": {"kind": "convolutional", "width": 8, "hidden": 32}},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, dict[tuple[str, str], StageResult]]:
    """Every stage of a tiny run and its baselines on videos that were recorded with actions."""
    work = tmp_path_factory.mktemp("study")
    videos = make_dataset(work / "videos", episodes=8, frames=16)
    robot = make_dataset(work / "robot", episodes=6, frames=16, seed=1)
    settings: dict[str, Any] = tiny_run(work, videos, robot)
    for stage in ("laq", "pretrain", "finetune"):
        settings[stage]["fit"] = settings[stage]["fit"] | {"steps": 6, "validate_every": 6}
    settings |= {"baselines": BASELINES, "tracking": {"enabled": False}}
    run = load_run(str(write_run(work, settings)))
    made = {}
    for item in plan(run):
        import_module(f"lapa.stages.{item.stage}").main(item.run)
        made[item.stage, item.name] = result_of(item)
    return run, made


def result_of(item: PlannedStage) -> StageResult:
    result = finished(item.run, item.stage)
    assert result is not None
    return result


def test_each_baseline_makes_only_what_it_cannot_share(study):
    _, made = study
    assert set(made) == {
        ("ingest", "tiny"),
        *(("laq", name) for name in ("tiny", "vpt")),
        *(("label", name) for name in ("tiny", "vpt")),
        *(("pretrain", name) for name in ("tiny", "vpt", "actionvla", "shuffled")),
        *((stage, name) for stage in ("finetune", "evaluate") for name in ("tiny", *BASELINES)),
    }
    assert len({result.folder for result in made.values()}) == len(made)


def test_vpt_labels_the_videos_with_actions_of_the_robot(study):
    _, made = study
    assert set(made["laq", "vpt"].inputs) == {"robot"}
    assert {"r2", "mae/x", "mae/y", "mae/z"} <= set(made["laq", "vpt"].metrics)
    assert {"videos/action_mean/x", "videos/action_std/y", "videos/r2"} <= set(made["label", "vpt"].metrics)
    assert "mean_action/normalized_mae" in made["pretrain", "vpt"].metrics


def test_learning_recorded_actions_reads_neither_labels_nor_a_latent_action_model(study):
    _, made = study
    assert set(made["pretrain", "actionvla"].inputs) == {"videos"}
    assert "mean_action/normalized_mae" in made["pretrain", "actionvla"].metrics


def test_a_policy_that_is_not_finetuned_is_the_pretrained_one(study):
    """Same head, same weights: only what it is told about its robot's frames differs."""
    from lapa.models.storage import load_state
    from lapa.models.vla.storage import load_vla_spec

    _, made = study
    pretrained = made["finetune", "actionvla-untouched"].inputs["pretrain"].url
    policy = made["finetune", "actionvla-untouched"].outputs["model"].url
    before, after = load_state(pretrained), load_state(policy)
    assert before.keys() == after.keys() and all((after[name] == before[name]).all() for name in before)
    assert load_vla_spec(policy).actions == load_vla_spec(pretrained).actions
    assert made["finetune", "actionvla-untouched"].metrics["timesteps"] > 0


def test_finetuning_an_action_model_without_its_head_starts_from_a_new_one(study):
    from lapa.models.vla.storage import load_vla_spec

    _, made = study
    finetuned = made["finetune", "actionvla"]
    pretrained = load_vla_spec(finetuned.inputs["pretrain"].url)
    assert load_vla_spec(finetuned.outputs["model"].url).actions != pretrained.actions


def test_every_arm_ends_in_a_policy_that_is_evaluated(study):
    _, made = study
    for name in ("tiny", *BASELINES):
        evaluation = made["evaluate", name]
        assert evaluation.inputs["policy"] == made["finetune", name].outputs["policy"]
        assert evaluation.metrics["held_out/ratio"] > 0


def test_a_finished_study_plans_the_same_folders_again(study):
    run, made = study
    assert all(result_of(item).folder == made[item.stage, item.name].folder for item in plan(run))


def test_each_labeller_is_registered_under_a_name_of_its_own(study, store: Path, tmp_path: Path):
    """Versions of one name are versions of one thing: an alias must not pass from codes to actions."""
    run, _ = study
    shutil.copyfile(store, tmp_path / "mlflow.db")
    names = []
    for arm in ("tiny", "vpt"):
        changes = {"work_url": str(tmp_path), "tracking.enabled": True}
        tracked = changed(arms(run)[run.name if arm == "tiny" else arm], changes)
        import_module("lapa.stages.laq").main(tracked)
        result = finished(tracked, "laq")
        assert result is not None
        names.append(result.tracking["model"])
    assert names == ["lapa-laq", "lapa-inverse-dynamics"]


def test_codes_are_learned_alike_from_videos_with_and_without_actions(tmp_path: Path):
    """The chain up to pretraining never reads what the videos were recorded with."""
    digests = []
    robot = make_dataset(tmp_path / "robot", episodes=2, frames=16)
    for name, has_actions in (("with", True), ("without", False)):
        videos = make_dataset(tmp_path / name / "videos", episodes=6, frames=16, actions=has_actions)
        settings = tiny_run(tmp_path / name, videos, robot) | {"tracking": {"enabled": False}, "finetune": None}
        for stage in ("laq", "pretrain"):
            settings[stage]["fit"] = settings[stage]["fit"] | {"steps": 6, "validate_every": 6}
        run = load_run(str(write_run(tmp_path / name, settings)))
        for item in plan(run):
            import_module(f"lapa.stages.{item.stage}").main(item.run)
        digests.append([finished(run, stage).outputs["model"].digest for stage in ("laq", "pretrain")])
    assert digests[0] == digests[1]
