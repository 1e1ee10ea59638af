"""HDF5 demonstrations in the layouts of robomimic and LIBERO."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import IngestConfig
from lapa.config.sources import Hdf5Source
from lapa.data.ingest import ingest
from lapa.data.readers import hdf5
from lapa.data.readers.build import build_reader
from lapa.errors import MissingDependency, SourceError
from lapa.types.episodes import Episode
from tests.data.sources import moving_square, truncate

h5py = pytest.importorskip("h5py")


def write_robomimic(path: Path, lengths: list[int], *, camera: str = "agentview_image", **attributes) -> Path:
    """Actions at timestep t of demonstration d are (d, t); the arm is at (t, 0, 0)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        described = {"env_args": {"env_name": "Lift", "env_kwargs": {"control_freq": 20}}} | attributes
        for name, value in described.items():
            data.attrs[name] = json.dumps(value)
        for number, length in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            demo["actions"] = np.array([[number, t] for t in range(length)], np.float64)
            demo[f"obs/{camera}"] = moving_square(length, shade=100 + number)
            demo["obs/robot0_eye_in_hand_image"] = np.zeros((length, 8, 8, 3), np.uint8)
            demo["obs/robot0_eef_pos"] = np.array([[t, 0, 0] for t in range(length)], np.float64)
            demo["obs/robot0_gripper_qpos"] = np.ones((length, 2))
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
    return path


def read_all(path: Path, **settings) -> list[Episode]:
    reader = build_reader(Hdf5Source(url=str(path), **settings))
    return [episode for item in reader.items() for episode in reader.read(item)]


def test_demonstrations_carry_pictures_actions_state_and_the_control_rate(tmp_path):
    path = write_robomimic(tmp_path / "lift.hdf5", [5, 7])
    keys = ("robot0_eef_pos", "robot0_gripper_qpos")
    _, second = read_all(path, proprioception_keys=keys, instruction="lift the cube")
    assert second.actions.tolist() == [[1, t] for t in range(7)]
    assert second.proprioception.tolist() == [[t, 0, 0, 1, 1] for t in range(7)]
    assert (second.fps, second.instruction) == (20, "lift the cube")
    assert np.array_equal(np.stack(list(second.frames())), moving_square(7, shade=101))


def test_a_libero_file_brings_its_instruction_and_is_put_upright(tmp_path):
    problem = {"language_instruction": "pick up the bowl"}
    path = write_robomimic(tmp_path / "bowl_demo.hdf5", [4], camera="agentview_rgb", problem_info=problem)
    (episode,) = read_all(tmp_path, flip="vertical")
    assert episode.instruction == "pick up the bowl"
    assert np.array_equal(next(episode.frames()), moving_square(1, shade=100)[0][::-1])
    (turned,) = read_all(path, flip="both")
    assert np.array_equal(next(turned.frames()), moving_square(1, shade=100)[0][::-1, ::-1])


def test_only_the_demonstrations_of_a_filter_key_are_read(tmp_path):
    path = write_robomimic(tmp_path / "lift.hdf5", [4, 5, 6])
    assert [len(episode.actions) for episode in read_all(path, filter_key="train")] == [4, 6]
    with pytest.raises(SourceError, match=r"no mask/valid; it has \['train'\]"):
        read_all(path, filter_key="valid")


def test_a_file_without_pictures_says_what_it_has(tmp_path):
    path = write_robomimic(tmp_path / "lift.hdf5", [4])
    with pytest.raises(SourceError, match=r"obs/front_image.*agentview_image.*robot0_eef_pos"):
        read_all(path, camera="front_image")


def test_a_file_without_a_control_rate_asks_for_it(tmp_path):
    path = write_robomimic(tmp_path / "lift.hdf5", [4], env_args={})
    with pytest.raises(SourceError, match=r"Set source\.fps"):
        read_all(path)
    assert read_all(path, fps=10)[0].fps == 10


def test_damaged_and_foreign_files_are_counted_and_named_and_the_others_ingested(tmp_path):
    write_robomimic(tmp_path / "raw/whole.hdf5", [4, 5])
    truncate(write_robomimic(tmp_path / "raw/truncated.hdf5", [4, 5]))
    (tmp_path / "raw/empty.hdf5").touch()
    with h5py.File(tmp_path / "raw/foreign.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    with h5py.File(write_robomimic(tmp_path / "raw/uneven.hdf5", [4]), "a") as file:
        del file["data/demo_0/actions"]
        file["data/demo_0/actions"] = np.zeros((3, 2))
    source = Hdf5Source(url=str(tmp_path / "raw"))
    config = IngestConfig(source=source, image_size=32, workers=1, max_failed_share=0.9)
    report = ingest(config, str(tmp_path / "out"))
    assert report.num_episodes == 2
    reasons = {problem.source: problem.reason for problem in report.failed}
    assert set(reasons) == {"empty.hdf5", "foreign.h5", "truncated.hdf5", "uneven.hdf5#demo_0"}
    assert "no group `data`" in reasons["foreign.h5"] and "4 frames but 3 rows" in reasons["uneven.hdf5#demo_0"]


def test_without_h5py_the_remedy_is_told(tmp_path, monkeypatch):
    write_robomimic(tmp_path / "lift.hdf5", [4])
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependency, match=r"lapa\[hdf5\]"):
        hdf5.Hdf5Reader(Hdf5Source(url=str(tmp_path)))
