"""Open-X datasets by name: keys, rate and the meaning of actions come from a table that one can read and extend."""

import json
from pathlib import Path

import numpy as np
import pytest
from tfrecord.writer import TFRecordWriter

from lapa.config.data import IngestConfig, RldsSource
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.readers.build import build_reader
from lapa.data.readers.openx import layout_of, openx_table, unproved_name
from lapa.errors import ConfigError, SourceError
from lapactl.ingesting import ingest_settings
from tests.data.sources import png_frames


def write_fractal(folder: Path, *, steps: int = 4, gripper_columns: int = 1, metres: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    writer = TFRecordWriter(str(folder / "fractal20220817_data-train.tfrecord-00000-of-00001"))
    numbers = np.arange(steps * 3, dtype=float)
    writer.write(
        {
            "steps/observation/image": (png_frames(steps), "byte"),
            "steps/observation/natural_language_instruction": ([b"pick coke can"] * steps, "byte"),
            "steps/observation/base_pose_tool_reached": (np.zeros(7 * steps), "float"),
            "steps/observation/gripper_closed": (np.ones(steps), "float"),
            "steps/action/world_vector": (numbers * metres, "float"),
            "steps/action/rotation_delta": (-numbers, "float"),
            "steps/action/gripper_closedness_action": (np.ones(steps * gripper_columns), "float"),
        }
    )
    writer.close()
    info = {"splits": [{"name": "train", "shardLengths": ["1"]}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def episode_of(source: RldsSource):
    reader = build_reader(source)
    (item,) = reader.items()
    return next(iter(reader.read(item)))


def test_a_dataset_is_read_by_its_name_alone(tmp_path):
    folder = write_fractal(tmp_path / "fractal20220817_data" / "0.1.0", metres=0.01)
    settings = ingest_settings(str(folder), kind="rlds", fps=None, workers=1, overrides=["image_size=32"])
    assert isinstance(settings.source, RldsSource) and settings.source.openx == "fractal20220817_data"
    ingest(settings, str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.info.action_names == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert dataset.info.proprioception_dims == 8
    assert (dataset.info.fps, dataset.info.embodiments) == ((3.0,), {"google_robot": 1})
    assert dataset.index["instruction"].to_pylist() == ["pick coke can"]
    conventions = dataset.info.conventions
    assert (conventions.control_hz, conventions.cameras) == (3, ("image",))
    gripper = conventions.actions[-1]
    assert (gripper.name, gripper.open, gripper.closed, gripper.mode) == ("gripper", -1, 1, "delta")


def test_numbers_that_the_table_does_not_fit_are_refused(tmp_path):
    folder = write_fractal(tmp_path / "fractal20220817_data" / "0.1.0")
    settings = ingest_settings(str(folder), kind="rlds", fps=None, workers=1, overrides=["image_size=32"])
    with pytest.raises(ConfigError, match=r"x is in m and lies between -1 and 1, .* Are these millimetres"):
        ingest(settings, str(tmp_path / "out"))


def test_parts_of_an_action_are_joined_in_the_order_of_the_table(tmp_path):
    episode = episode_of(RldsSource(url=str(write_fractal(tmp_path / "f")), openx="fractal20220817_data"))
    np.testing.assert_array_equal(episode.actions[1], [3, 4, 5, -3, -4, -5, 1])


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    with pytest.raises(ConfigError, match="did you mean fractal20220817_data"):
        layout_of(RldsSource(url="x", openx="fractal_data"))
    with pytest.raises(ConfigError, match=r"set source\.camera to primary"):
        layout_of(RldsSource(url="x", openx="kuka", camera="wrist"))
    with pytest.raises(ConfigError, match=r"source\.fps .*source\.openx"):
        layout_of(RldsSource(url="x"))


def test_another_version_of_a_dataset_is_named_with_what_differs(tmp_path):
    source = RldsSource(url=str(write_fractal(tmp_path / "f", gripper_columns=2)), openx="fractal20220817_data")
    error = episode_of(source)
    assert isinstance(error, SourceError) and "has 2 columns" in str(error) and "openx_table" in str(error)


def test_a_table_of_one_s_own_goes_before_the_built_in_one(tmp_path):
    table = tmp_path / "mine.yaml"
    table.write_text(
        "my_arm:\n  robot: mine\n  hz: 7\n  cameras: {primary: image}\n"
        "  action: [{key: world_vector, dims: [x, y, z]}]\n  instruction: natural_language_instruction\n"
    )
    source = RldsSource(url=str(write_fractal(tmp_path / "f")), openx="my_arm", openx_table=str(table))
    episode = episode_of(source)
    assert (episode.fps, episode.embodiment, episode.actions.shape) == (7, "mine", (4, 3))
    table.write_text("my_arm: {robot: mine}")
    with pytest.raises(ConfigError, match=r"mine\.yaml is no table"):
        layout_of(source)


def test_instructions_of_code_points_become_text(tmp_path):
    folder = tmp_path / "language_table"
    folder.mkdir()
    text = [ord(letter) for letter in "push the cube"] + [0, 0]
    writer = TFRecordWriter(str(folder / "language_table-train.tfrecord-00000-of-00001"))
    writer.write(
        {
            "steps/observation/rgb": (png_frames(2), "byte"),
            "steps/observation/instruction": (text * 2, "int"),
            "steps/observation/effector_translation": (np.zeros(4), "float"),
            "steps/action": (np.arange(4.0), "float"),
        }
    )
    writer.close()
    episode = episode_of(RldsSource(url=str(folder), openx="language_table"))
    assert episode.instruction == "push the cube" and episode.action_names == ("x", "y")


def test_the_table_names_enough_and_every_name_is_told_once():
    table = openx_table()
    assert len(table) >= 40
    for name, entry in table.items():
        layout = layout_of(RldsSource(url="x", openx=name))
        assert layout.conventions.control_hz == entry.hz and layout.conventions.actions


def test_built_in_entries_that_no_sample_proved_are_told_apart(tmp_path):
    names = {name: unproved_name(RldsSource(url="x", openx=name)) for name in openx_table()}
    assert [name for name, unproved in names.items() if unproved is None] == ["bridge_dataset"]
    assert unproved_name(RldsSource(url="x", fps=5)) is None
    (tmp_path / "mine.yaml").write_text(
        "kuka: {robot: mine, hz: 7, cameras: {primary: image}, action: [{key: a, dims: [x]}]}"
    )
    mine = RldsSource(url="x", openx="kuka", openx_table=str(tmp_path / "mine.yaml"))
    assert unproved_name(mine) is None, "who wrote an entry knows it"


def test_real_bridge_episodes_are_read_by_name(shared_data, tmp_path):
    source = RldsSource(url=str(shared_data / "bridge-octo-debug" / "bridge_dataset" / "1.0.0"), openx="bridge_dataset")
    report = ingest(IngestConfig(source=source, image_size=64, workers=1), str(tmp_path / "out"))
    info = Dataset.open(str(tmp_path / "out")).info
    assert report.num_episodes == 25 and not report.failed
    assert info.action_dims == 7 and info.licences == {"unknown": 25}
    assert info.actions.min[6] >= 0 and info.actions.max[6] <= 1
