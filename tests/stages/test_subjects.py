"""Whom `lapactl probe` and `analyze` find behind a name: a model, its window, its datasets, its policy."""

from pathlib import Path

import pytest

from lapa import files
from lapa.config.load import arms, load_run
from lapa.errors import ConfigError
from lapa.stages.plan import NotMadeYet, stage_folder
from lapa.stages.results import Artifact, StageResult, write_result
from lapa.stages.subjects import find_subject
from tests.builders import make_dataset


def finish(folder: str, stage: str, *, inputs: dict[str, Artifact], model: str) -> None:
    files.write_json(files.join(folder, "model", "config.json"), {"kind": stage, "config": {}, "digest": model})
    write_result(
        StageResult(
            stage=stage,
            name="mine",
            fingerprint="",
            folder=folder,
            inputs=inputs,
            outputs={"model": Artifact(url=files.join(folder, "model"), digest=model)},
        )
    )


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A run on a finished dataset, whose stage `laq` has finished."""
    url = make_dataset(tmp_path / "data", episodes=4)
    path = tmp_path / "work" / "runs" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"preset: tabletop\nname: mine\nwork_url: {tmp_path / 'work'}\nbaselines: {{}}\n"
        f"videos: {{kind: dataset, url: {url}}}\nrobot: {{kind: dataset, url: {url}}}\nlaq: {{window_seconds: 0.4}}\n"
    )
    return path


def finish_laq(run_file: Path) -> str:
    folder = stage_folder(load_run(str(run_file)), "laq")
    videos = Artifact(url=str(run_file.parents[2] / "data"), digest="d")
    finish(folder, "laq", inputs={"videos": videos}, model="laq-digest")
    return folder


def test_a_run_stands_for_its_model_and_datasets(run_file: Path) -> None:
    with pytest.raises(NotMadeYet, match="lapactl run mine laq"):
        find_subject(str(run_file))
    folder = finish_laq(run_file)
    found = find_subject(str(run_file))
    assert found.model == Artifact(url=files.join(folder, "model"), digest="laq-digest")
    assert found.window_seconds == 0.4 and set(found.datasets) == {"videos", "robot"} and found.policy is None


def test_the_window_of_a_stage_or_model_folder_is_its_runs(run_file: Path) -> None:
    folder = finish_laq(run_file)
    for source in (folder, files.join(folder, "model"), files.join(folder, "model") + "/"):
        found = find_subject(source)
        assert found.window_seconds == 0.4 and found.model.digest == "laq-digest" and "videos" in found.datasets


def test_the_window_is_also_read_off_labels_that_the_model_made(run_file: Path) -> None:
    folder = finish_laq(run_file)
    run_file.unlink()
    assert find_subject(folder).window_seconds is None
    stamp = {"labeller_digest": "laq-digest", "window_seconds": 0.7}
    files.write_json(str(run_file.parents[1] / "label-1" / "labels" / "labels.json"), {"stamp": stamp})
    assert find_subject(folder).window_seconds == 0.7


def test_a_pretraining_brings_its_policy_and_the_model_that_labelled_for_it(run_file: Path) -> None:
    laq = finish_laq(run_file)
    work = run_file.parents[1]
    # As written by a run that was started elsewhere: relative, and found beside the folder all the same.
    inputs = {"laq": Artifact(url=f"work/{files.name_of(laq)}/model", digest="laq-digest")}
    finish(str(work / "pretrain-1"), "pretrain", inputs=inputs, model="vla-digest")
    found = find_subject(str(work / "pretrain-1"))
    assert found.model.url == files.join(laq, "model") and found.window_seconds == 0.4
    assert found.policy is not None and found.policy.digest == "vla-digest"


def test_the_floor_is_the_baseline_whose_codes_are_withheld(run_file: Path) -> None:
    finish_laq(run_file)
    withheld = "{laq.model.quantizer: {kind: withheld, width: 8}, pretrain: null, finetune: null%s}"
    text = run_file.read_text()
    run_file.write_text(text.replace("baselines: {}", f"baselines: {{floor: {withheld % ''}}}"))
    assert find_subject(str(run_file)).floor is None  # not made yet
    floor = arms(load_run(str(run_file)))["floor"]
    finish(stage_folder(floor, "laq"), "laq", inputs={}, model="floor-digest")
    found = find_subject(str(run_file)).floor
    assert found is not None and found.digest == "floor-digest"
    other = withheld % ", laq.window_seconds: 0.8"
    run_file.write_text(text.replace("baselines: {}", f"baselines: {{floor: {other}}}"))
    finish(stage_folder(arms(load_run(str(run_file)))["floor"], "laq"), "laq", inputs={}, model="other-window")
    assert find_subject(str(run_file)).floor is None


def test_a_name_that_stands_for_nothing_says_what_may_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a preset, nor a run's YAML file"):
        find_subject(str(tmp_path))


def test_a_run_without_codes_cannot_be_analysed(run_file: Path) -> None:
    with pytest.raises(ConfigError, match="labeller=latent-action"):
        find_subject(str(run_file), ["laq.labeller=inverse-dynamics", "laq.gate=null"])
