"""Datasets, models and robots that mean different things are told apart before anything trains or serves."""

import pytest

from lapa import files
from lapa.config.conventions import Conventions, DimensionConvention
from lapa.config.load import changed, load_run
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError, ConventionMismatch, LicenceForbids, PolicyError
from lapa.policy.agreement import CONVENTIONS, check_robot
from lapa.policy.manifest import POLICY_FILE
from lapa.stages.agreement import check_agreement
from lapa.stages.ingest import main as ingest
from tests.builders import make_dataset


def arm(opens: float = 1.0, **settings) -> Conventions:
    dimensions = (
        DimensionConvention(name="x", unit="m", mode="delta", frame="base"),
        DimensionConvention(name="y", unit="m", mode="delta", frame="base"),
        DimensionConvention(name="z", open=opens, closed=1 - opens),
    )
    return Conventions(actions=dimensions, **{"control_hz": 10, **settings})


def dataset(folder, conventions=None, **settings) -> str:
    """With other `dataset.json` values than the builder's."""
    url = make_dataset(folder, episodes=2, frames=6, licence=settings.pop("licence", "CC-BY-4.0"))
    info = Dataset.open(url).info.model_copy(update={"conventions": conventions or arm(), **settings})
    files.write_json(files.join(url, "dataset.json"), info.model_dump(mode="json"))
    return url


def existing(url):
    return {"kind": "dataset", "url": url}


@pytest.fixture
def run(tmp_path):
    """Of two datasets that agree."""

    def build(videos=None, robot=None, **changes):
        settings = {
            "work_url": str(tmp_path / "work"),
            "tracking.enabled": False,
            "videos": videos if isinstance(videos, dict) else existing(videos or dataset(tmp_path / "videos")),
            "robot": robot if isinstance(robot, dict) else existing(robot or dataset(tmp_path / "robot")),
        }
        return changed(load_run("tabletop-smoke"), {**settings, **changes})

    return build


KEEP_HEAD = {
    "pretrain.target": {"kind": "recorded-actions", "head": {"kind": "binned", "bins": 16, "decode": "mean"}},
    "finetune.keep_head": True,
}


def test_datasets_that_agree_pass(run):
    check_agreement(run(use="commercial", **KEEP_HEAD))


def test_a_gripper_of_the_other_polarity_is_no_reason_to_keep_the_head(run, tmp_path):
    other = dataset(tmp_path / "other", arm(opens=0.0))
    check_agreement(run(robot=other))  # a new head learns the robot's own actions
    with pytest.raises(
        ConventionMismatch, match=r"z opens at 1 and closes at 0 in videos.* set finetune.keep_head=fal"
    ):
        check_agreement(run(robot=other, **KEEP_HEAD))


def test_codes_of_frames_that_were_made_square_differently_are_refused(run, tmp_path):
    other = dataset(tmp_path / "other", resize="squash")
    with pytest.raises(ConventionMismatch, match="by 'squash', while videos' are by 'crop'"):
        check_agreement(run(robot=other, **{"finetune.latent_loss_weight": 0.1}))


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "unknown"])
def test_a_licence_that_does_not_allow_the_use_is_refused_with_what_to_do(run, tmp_path, licence):
    videos = dataset(tmp_path / "other", licence=licence)
    check_agreement(run(videos=videos))
    check_agreement(run(videos=videos, use="commercial", allowed_licences=[licence]))
    with pytest.raises(LicenceForbids, match=rf"'{licence}' of 'videos' .* add '{licence}' to allowed_licences"):
        check_agreement(run(videos=videos, use="commercial"))


def test_a_licence_that_settings_name_is_refused_before_anything_is_read(tmp_path):
    source = {"kind": "videos", "url": "s3://nowhere/clips", "licence": "CC-BY-NC-4.0"}
    with pytest.raises(ConfigError, match=r"the licence 'CC-BY-NC-4.0' of videos forbids that"):
        changed(load_run("tabletop-smoke"), {"videos": {"kind": "ingest", "source": source}, "use": "commercial"})


def mixture(*urls):
    return {"kind": "mixture", "datasets": {f"d{i}": {"dataset": existing(url)} for i, url in enumerate(urls)}}


def test_a_mixture_of_clashing_actions_ends_at_ingest_where_actions_are_learned(run, tmp_path):
    urls = dataset(tmp_path / "one"), dataset(tmp_path / "other", arm(opens=0.0))
    of_codes = run(videos=mixture(*urls))
    ingest(of_codes)
    check_agreement(of_codes)
    with pytest.raises(ConventionMismatch, match=r"mixture 'robot', and z opens at 1 .* in dataset 'd0'"):
        ingest(run(robot=mixture(*urls)))


@pytest.mark.parametrize(
    ("robot", "said"),
    [
        (arm(), None),
        (Conventions(control_hz=10.01, cameras=("front", "wrist")), None),
        (arm(opens=0.0), "z opens at 1 and closes at 0 in the policy, and opens at 0"),
        (Conventions(control_hz=20), "the policy's actions are 10 a second, and the robot takes 20"),
        (Conventions(cameras=("wrist",)), "the policy looks through front, and the robot has wrist"),
        (Conventions(embodiment="widowx"), "the policy was finetuned on franka, and the robot is widowx"),
    ],
)
def test_a_policy_is_kept_from_a_robot_that_means_something_else(tmp_path, robot, said):
    card = arm(cameras=("front",), embodiment="franka").model_dump(mode="json", exclude_defaults=True)
    files.write_json(str(tmp_path / POLICY_FILE), {CONVENTIONS: card})
    if said is None:
        check_robot(str(tmp_path), robot)
        return
    with pytest.raises(PolicyError, match=said):
        check_robot(str(tmp_path), robot)
