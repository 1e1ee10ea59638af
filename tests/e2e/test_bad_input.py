"""What a stage says to bad input: one clear line, the exit code of the error's class, nothing half-made."""

import shutil
from pathlib import Path

import pytest

from lapa.config.load import load_run
from lapa.config.stages import StageName
from lapa.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DatasetNotFound,
    LabelMismatch,
    PolicyError,
    TooManyFailures,
)
from lapa.stages.context import open_stage
from lapa.stages.plan import NotMadeYet
from tests.builders import make_dataset
from tests.data.sources import truncate, write_clips
from tests.e2e.programs import Ended, copy_before, is_complete, result_of, stage


def test_ingest_refuses_a_folder_of_mostly_damaged_videos_and_names_them(fresh_run: Path, tmp_path: Path):
    clips = write_clips(tmp_path / "clips", 4)
    for number in (1, 2):
        truncate(clips / f"push_the_cup_{number:03d}.mp4", 0.3)
    videos = f"videos={{kind: ingest, source: {{kind: videos, url: {clips}}}, image_size: 32, workers: 1}}"
    ended = stage(fresh_run, "ingest", videos)
    assert_refused(ended, TooManyFailures, "2 of 4 sources failed", "push_the_cup_001.mp4", "ingest-report.json")
    assert not is_complete(fresh_run, "ingest")
    (dataset,) = fresh_run.glob("datasets/*/")
    assert (dataset / "ingest-report.json").exists()
    assert not (dataset / "dataset.json").exists()


def test_laq_refuses_a_dataset_that_is_not_there(fresh_run: Path, tmp_path: Path):
    ended = stage(fresh_run, "laq", f"videos.url={tmp_path / 'nowhere'}")
    assert_refused(ended, DatasetNotFound, str(tmp_path / "nowhere"))
    assert not list(fresh_run.glob("laq-*"))


def test_pretrain_names_the_stage_that_must_run_first(fresh_run: Path):
    assert_refused(stage(fresh_run, "pretrain"), NotMadeYet, "stage 'label' has not finished", "lapactl run")
    assert not list(fresh_run.glob("pretrain-*"))


def test_label_refuses_a_model_that_was_cut_short(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "label", store)
    (result,) = work.glob("laq-*/result.json")
    result.write_text(result.read_text().replace(f"{finished_run}/", f"{work}/"))
    weights = result.parent / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    ended = stage(work, "label")
    assert_refused(ended, CheckpointError, "model.safetensors")
    assert not is_complete(work, "label")


def test_label_refuses_to_mix_with_labels_of_another_stamp(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "label", store)
    (finished,) = finished_run.glob("label-*/labels")
    labels = shutil.copytree(finished, work / finished.parent.name / "labels")
    manifest, laq = labels / "labels.json", result_of(finished_run, "label").inputs["laq"].digest
    manifest.write_text(manifest.read_text().replace(laq, "0" * len(laq)))

    ended = stage(work, "label")
    assert_refused(ended, LabelMismatch, "labeller_digest is 0000")
    assert not is_complete(work, "label")


@pytest.mark.parametrize("name", ["ingest", "evaluate"])
def test_stages_of_one_process_refuse_ranks(name: StageName, fresh_run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = load_run(str(fresh_run / "run.yaml"))
    with pytest.raises(ConfigError, match="laq, label, pretrain and finetune share"), open_stage(run, name):
        pass


@pytest.mark.parametrize("role", ["videos", "laq"])
def test_pretrain_refuses_labels_of_another_dataset_or_model(
    role: str, finished_run: Path, store: Path, tmp_path: Path
):
    """The label stage's own result points at them, as after a copy that mixed up two runs."""
    work = copy_before(finished_run, tmp_path / "work", "pretrain", store)
    made = result_of(work, "label")
    right, other = made.outputs["labels"].url, tmp_path / "other-labels"
    shutil.copytree(right, other)
    manifest, stamp = other / "labels.json", made.inputs[role].digest
    manifest.write_text(manifest.read_text().replace(stamp, "0" * len(stamp)))
    (result,) = work.glob("label-*/result.json")
    result.write_text(result.read_text().replace(right, str(other)))

    ended = stage(work, "pretrain")
    differs = {"videos": "dataset_revision", "laq": "labeller_digest"}[role]
    assert_refused(ended, LabelMismatch, f"{differs} is 0000", "Run the label stage")
    assert not is_complete(work, "pretrain")


def test_finetune_refuses_episodes_without_actions(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "finetune", store)
    silent = make_dataset(tmp_path / "silent", episodes=3, actions=False)
    ended = stage(work, "finetune", f"robot.url={silent}")
    assert_refused(ended, DataError, f"{silent} has no actions")
    assert not is_complete(work, "finetune")


def test_evaluate_refuses_a_damaged_policy(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "evaluate", store)
    (result,) = work.glob("finetune-*/result.json")
    policy = result.parent / "policy"
    result.write_text(result.read_text().replace(f"{finished_run}/", f"{work}/"))
    weights = policy / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\0\1\2\3\4\5\6\7")

    ended = stage(work, "evaluate")
    assert_refused(ended, PolicyError, "model/model.safetensors", "was altered", "export it again")
    assert not is_complete(work, "evaluate")


def test_a_setting_that_does_not_exist_is_refused_before_anything_starts(fresh_run: Path):
    ended = stage(fresh_run, "laq", "laq.fit.step=5")
    assert ended.code == ConfigError.exit_code
    assert "laq.fit.step: unknown key. Did you mean 'steps'?" in ended.said


def assert_refused(ended: Ended, error: type[Exception], *words: str) -> None:
    assert ended.code == error.exit_code, ended.said  # type: ignore[attr-defined]
    assert ended.last_words.startswith(f"{error.__name__}: "), ended.said
    for word in words:
        assert word in ended.last_words
    assert "Traceback" not in ended.said
