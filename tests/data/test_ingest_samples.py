"""Ingest of real robot, simulated and human recordings, where the sample data is beside the repository."""

from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import IngestConfig, LeRobotSource, RldsSource, SourceConfig, VideoFolderSource
from lapa.data import video
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from tests.data.sources import stored_member


def ingested(source: SourceConfig, folder: Path, **settings) -> Dataset:
    ingest(IngestConfig(**{"source": source, "image_size": 48, "workers": 1} | settings), str(folder))
    return Dataset.open(str(folder))


def first_frame(dataset: Dataset, row: int) -> np.ndarray:
    return next(video.decode(stored_member(dataset, row, "video")))


def test_real_robot_videos_of_several_sizes_and_rates(shared_data, tmp_path):
    dataset = ingested(VideoFolderSource(url=str(shared_data / "simpler-real-rollouts")), tmp_path)
    assert dataset.index["num_frames"].to_pylist() == [37, 47, 16]
    assert dataset.info.fps == pytest.approx((5.0, 50 / 3))
    assert not dataset.info.has_actions and dataset.info.actions is None


def test_a_human_video_thinned_to_five_frames_a_second(shared_data, tmp_path):
    url = shared_data / "human-hand-video" / "human_hand_video.mp4"
    dataset = ingested(VideoFolderSource(url=str(url)), tmp_path, fps=5)
    assert dataset.info.num_frames == pytest.approx(621 / 6, abs=1)
    assert first_frame(dataset, 0).shape == (48, 48, 3)


def test_a_simulated_humanoid_in_lerobot_format_with_its_traps(shared_data, tmp_path):
    """A declared camera has no files, and "valid" sits among the tasks."""
    dataset = ingested(LeRobotSource(url=str(shared_data / "gr1-robosim-picknplace")), tmp_path)
    assert dataset.index["num_frames"].to_pylist() == [416, 470, 470, 412, 328]
    instructions = dataset.index["instruction"].to_pylist()
    assert instructions[0] == "pick the pear from the counter and place it in the plate"
    assert "valid" not in instructions and len(set(instructions)) == 5
    assert dataset.info.action_dims == dataset.info.proprioception_dims == 44
    assert dataset.info.embodiments == {"GR1ArmsOnly": 5}


def test_a_real_robot_in_rlds_format(shared_data, tmp_path):
    url = shared_data / "bridge-octo-debug" / "bridge_dataset" / "1.0.0"
    dataset = ingested(RldsSource(url=str(url), fps=5, embodiment="widowx"), tmp_path)
    assert dataset.info.num_episodes == 25 and dataset.info.num_frames == 250
    assert dataset.info.instructions == 4
    assert dataset.info.action_dims == 7 and dataset.info.has_actions
    assert first_frame(dataset, 3).std() > 20  # a picture, not the blank fourth camera
