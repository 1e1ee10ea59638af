"""What a dataset's numbers mean is held against the numbers, kept with the dataset, and compared in words."""

import numpy as np
import pytest
from pydantic import ValidationError

from lapa.config.conventions import Conventions, DimensionConvention, difference
from lapa.config.data import IngestConfig, LeRobotSource, VideoFolderSource
from lapa.config.licences import allows_commercial_use, licence_problem
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.errors import ConfigError
from tests.data.sources import write_clips, write_lerobot, write_lerobot_table

ARM = ("joint_0", "joint_1", "joint_2")


def conventions(*, gripper=(1.0, 0.0), names=ARM, **of_all) -> Conventions:
    plain = [DimensionConvention(name=name, **of_all) for name in names[:-1]]
    last = DimensionConvention(name=names[-1], open=gripper[0], closed=gripper[1])
    return Conventions(actions=(*plain, last))


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """Actions (episode, timestep, 0): episodes 0 and 1, timesteps 0 to 5, at 10 fps."""
    return write_lerobot(tmp_path_factory.mktemp("robot"), [6, 6])


def read(robot, folder, declared=None, **source):
    config = IngestConfig(
        source=LeRobotSource(url=str(robot), **source), image_size=32, workers=1, conventions=declared
    )
    ingest(config, str(folder))
    return Dataset.open(str(folder)).info


def test_what_a_lerobot_dataset_says_is_kept_and_what_is_declared_goes_before_it(robot, tmp_path):
    info = read(robot, tmp_path / "said")
    assert info.conventions.action_names == ARM
    assert (info.conventions.control_hz, info.conventions.cameras) == (10, ("observation.images.front",))
    assert (info.conventions.embodiment, info.conventions.licence) == ("toy_arm", None)

    declared = conventions(names=("dx", "dy", "gripper"), unit="deg", mode="delta", frame="base")
    info = read(robot, tmp_path / "declared", declared.model_copy(update={"licence": "CC-BY-4.0"}))
    assert info.action_names == ("dx", "dy", "gripper")
    assert info.conventions.actions == declared.actions
    assert info.licences == {"CC-BY-4.0": 2}


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (conventions(names=("a", "b")), r"2 dimensions \(a, b\) and an action of the source has 3"),
        (conventions(names=("joint_1", "joint_0", "joint_2")), "in another order"),
        (
            conventions(unit="normalized"),
            r"joint_1 is in normalized and lies between -1 and 1, but its recorded numbers go from 0 to 5",
        ),
        (conventions(unit="m", mode="delta"), "Are these millimetres"),
        (
            conventions(gripper=(3.0, 1.0)),
            r"joint_2 lies between 1 and 3, .* from 0 to 0 .* It opens at 3 and closes at 1",
        ),
        (Conventions(control_hz=5), r"control_hz is 5, and the source has 10 frames a second"),
        (Conventions(cameras=("wrist",)), "names wrist, and the frames come from observation.images.front"),
    ],
)
def test_a_declaration_that_the_numbers_contradict_is_refused_and_nothing_is_taken_for_a_dataset(
    robot, tmp_path, declared, why
):
    with pytest.raises(ConfigError, match=why):
        read(robot, tmp_path / "out", declared)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_correcting_a_declaration_encodes_no_video_again(robot, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(ConfigError):
        read(robot, folder, conventions(unit="normalized"))
    before = {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}
    assert read(robot, folder, conventions(unit="deg")).conventions.actions[0].unit == "deg"
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}


def test_an_action_that_is_no_number_is_named_and_its_episode_left_out(tmp_path):
    source = write_lerobot(tmp_path / "robot", [6] * 3)
    actions = np.zeros((6, 3), np.float32)
    actions[4, 1] = np.nan
    write_lerobot_table(source, 1, actions)
    config = IngestConfig(source=LeRobotSource(url=str(source)), image_size=32, workers=1, max_failed_share=0.5)
    report = ingest(config, str(tmp_path / "out"))
    assert [problem.reason for problem in report.failed] == [
        "videos/chunk-000/observation.images.front/episode_000001.mp4: actions are NaN or infinite at 1 timesteps, "
        "first at 4. Repair or remove this episode."
    ]


def test_videos_take_the_licence_and_embodiment_that_are_declared(tmp_path):
    source = VideoFolderSource(url=str(write_clips(tmp_path / "videos", 1)))
    declared = Conventions(licence="CC-BY-NC-4.0", embodiment="human")
    ingest(IngestConfig(source=source, image_size=32, workers=1, conventions=declared), str(tmp_path / "out"))
    info = Dataset.open(str(tmp_path / "out")).info
    assert (info.licences, info.embodiments) == ({"CC-BY-NC-4.0": 1}, {"human": 1})
    assert (info.conventions.licence, info.conventions.control_hz) == ("CC-BY-NC-4.0", None)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"actions": [{"name": "gripper", "open": 1}]}, "only one of open and closed"),
        ({"actions": [{"name": "gripper", "open": 1, "closed": 1}]}, "both open and closed"),
        ({"actions": [{"name": "x"}, {"name": "x"}]}, "same name: x"),
        ({"actions": [{"name": "x", "unit": "inch"}]}, "unit"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(wrong, why):
    with pytest.raises(ValidationError, match=why):
        Conventions.model_validate(wrong)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (conventions(unit="deg"), None),
        (conventions(), None),
        (Conventions(), None),
        (conventions(unit="rad"), "joint_0 is in deg in a and rad in b"),
        (conventions(gripper=(0, 1)), "joint_2 opens at 1 and closes at 0 in a, and opens at 0 and closes at 1 in b"),
        (conventions(names=("x", "y", "z")), "the actions are joint_0, joint_1, joint_2 in a and x, y, z in b"),
    ],
)
def test_two_action_spaces_differ_in_what_both_of_them_say(other, said):
    assert difference(conventions(unit="deg").actions, other.actions, here="a", there="b") == said


@pytest.mark.parametrize(
    ("licence", "allows"),
    [
        ("CC-BY-4.0", True),
        ("apache-2.0", True),
        ("MIT", True),
        ("cc by-nc-sa 4.0", False),
        ("Non-commercial research only", False),
        ("CC-BY-ND-4.0", None),
        ("unknown", None),
        ("our contract 17", None),
    ],
)
def test_a_licence_is_read_by_its_name(licence, allows):
    assert allows_commercial_use(licence) is allows


def test_a_licence_is_refused_for_the_use_it_forbids_and_not_for_another():
    licences = {"'hands'": ["CC-BY-NC-4.0"]}
    assert "'CC-BY-NC-4.0' of 'hands' forbids that" in str(licence_problem("commercial", licences, ()))
    assert licence_problem("research", licences, ()) is None
    assert licence_problem("commercial", licences, ("CC-BY-NC-4.0",)) is None
    assert "not known to allow" in str(licence_problem("commercial", {"x": ["unknown"]}, ()))
