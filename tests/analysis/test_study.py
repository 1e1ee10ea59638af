"""All analyses of a small model on a small dataset: what is written, what is read again, what is left out."""

from pathlib import Path

import numpy as np
import pytest

from lapa import files
from lapa.analysis.records import Source
from lapa.analysis.results import ANALYSIS_FILE, read_analysis
from lapa.analysis.study import StudyInputs, StudySettings, study
from lapa.config.latent_action import WithheldConfig
from lapa.config.vla import ConvolutionalBackbone
from lapa.data.dataset import Dataset
from lapa.data.video import decode
from lapa.models.storage import model_digest
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.storage import save_vla
from tests.analysis.models import MODEL, saved_model
from tests.builders import make_dataset


@pytest.fixture
def model(tmp_path: Path) -> Source:
    return saved_model(tmp_path / "model", MODEL)


@pytest.fixture
def policy(tmp_path: Path) -> Source:
    spec = VlaSpec(
        backbone=ConvolutionalBackbone(image_size=24, width=8, hidden=16, keypoints=4),
        codes_per_pair=2,
        codebook_size=4,
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.2, 0.2, 0.2),
    )
    save_vla(tmp_path / "policy", build_vla(spec))
    return Source(url=str(tmp_path / "policy"), digest=model_digest(str(tmp_path / "policy")))


def dataset(folder: Path, **settings: object) -> Source:
    url = make_dataset(folder, **{"episodes": 8, "frames": 14, "image_size": 24, **settings})  # type: ignore[arg-type]
    return Source(url=url, digest=Dataset.open(url).revision, name=folder.name)


def inputs(model: Source, *datasets: Source, **more: Source) -> StudyInputs:
    roles = dict(zip(("videos", "robot"), datasets, strict=False))
    return StudyInputs(name="small", window_seconds=0.3, model=model, datasets=roles, **more)  # type: ignore[arg-type]


def test_a_study_writes_every_picture_and_reads_its_result_again(tmp_path: Path, model: Source, policy: Source) -> None:
    wanted = inputs(model, dataset(tmp_path / "a", actions=False), dataset(tmp_path / "b", seed=1), policy=policy)
    found = study(wanted, StudySettings(episodes=1), str(tmp_path))
    assert {item.kind for item in found.media} == {
        "atlas", "across", "scatter", "instructions", "rollout", "reconstruction",
    }  # fmt: skip
    for item in found.media:
        assert files.read_bytes(files.join(found.folder, item.file))
    assert len({item.name for item in found.media}) == len(found.media)
    assert set(found.probes) == {"videos", "robot"} and not found.skipped
    assert found.folder == files.join(str(tmp_path), f"analysis-{found.digest[:10]}")
    assert read_analysis(found.folder) == found
    assert study(wanted, StudySettings(episodes=1), str(tmp_path)) == found  # read, with its `finished` and `seconds`


def test_a_study_that_was_cut_short_is_made_again(tmp_path: Path, model: Source) -> None:
    wanted, settings = inputs(model, dataset(tmp_path / "a")), StudySettings(kinds=("atlas",), probes=False)
    found = study(wanted, settings, str(tmp_path))
    files.remove(files.join(found.folder, ANALYSIS_FILE))
    assert read_analysis(found.folder) is None
    again = study(wanted, settings, str(tmp_path))
    assert again.media == found.media and again.digest == found.digest


def test_other_content_or_settings_go_to_another_folder(tmp_path: Path, model: Source) -> None:
    data = dataset(tmp_path / "a")
    base = inputs(model, data).digest(StudySettings())
    assert inputs(model, data).digest(StudySettings(max_pairs=100)) != base
    assert inputs(model, data.model_copy(update={"digest": "other"})).digest(StudySettings()) != base
    assert inputs(model.model_copy(update={"digest": "other"}), data).digest(StudySettings()) != base
    assert inputs(model, data.model_copy(update={"url": "elsewhere"})).digest(StudySettings()) == base


def test_the_rollout_starts_at_the_real_frame_and_names_every_code(
    tmp_path: Path, model: Source, policy: Source
) -> None:
    wanted = inputs(model, dataset(tmp_path / "a"), policy=policy)
    found = study(wanted, StudySettings(kinds=("rollout",), probes=False, episodes=2), str(tmp_path))
    assert len(found.rollouts) == 2
    for item in found.rollouts:
        assert len(item.codes) == len(item.true_codes) == len(item.errors) == 4  # 14 frames, every third
        assert all(error >= 0 for error in item.errors)
    video = next(item for item in found.media if item.media_type == "video/mp4")
    frames = list(decode(files.read_bytes(files.join(found.folder, video.file))))
    assert frames[0].shape == (video.height, video.width, 3)
    panels = np.split(frames[0][:240], 3, axis=1)
    assert np.abs(panels[0].astype(int) - panels[1]).mean() < 8  # before anything is imagined, all are the real frame


def test_what_cannot_be_shown_is_told_in_words(tmp_path: Path, model: Source) -> None:
    found = study(inputs(model, dataset(tmp_path / "a", actions=False)), StudySettings(probes=False), str(tmp_path))
    assert "pretrain" in found.skipped["rollout"]
    assert "--dataset" in found.skipped["across"]
    assert "actions" in found.skipped["scatter"]


def test_a_model_without_codes_is_probed_by_its_vectors_and_can_be_the_floor(tmp_path: Path, model: Source) -> None:
    floor = saved_model(tmp_path / "floor", MODEL.model_copy(update={"quantizer": WithheldConfig(width=4)}))
    data = dataset(tmp_path / "a")
    withheld = study(inputs(floor, data), StudySettings(kinds=("atlas",)), str(tmp_path))
    report = withheld.probes["videos"]
    assert report.usage is None and {score.features for score in report.scores} == {"vectors"}
    assert "atlas" in withheld.skipped
    with_floor = study(inputs(model, data, floor=floor), StudySettings(kinds=()), str(tmp_path))
    names = {item.name for item in with_floor.probes["videos"].reconstruction}
    assert names == {"codes", "copy", "constant-code", "shuffled-codes", "withheld"}


def test_copying_the_first_frame_has_the_error_of_copying(tmp_path: Path, model: Source) -> None:
    found = study(inputs(model, dataset(tmp_path / "a")), StudySettings(kinds=()), str(tmp_path))
    by_name = {item.name: item for item in found.probes["videos"].reconstruction}
    assert by_name["copy"].of_copy == 1.0
    assert by_name["codes"].of_copy == pytest.approx(by_name["codes"].error / by_name["copy"].error)
    assert by_name["codes"].low <= by_name["codes"].error <= by_name["codes"].high
