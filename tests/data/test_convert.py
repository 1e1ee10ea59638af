"""Out to LeRobot v3 and WebDataset, and back in: what was stored comes back, picture by picture."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import webdataset

from lapa import files
from lapa.config.data import IngestConfig, LeRobotSource, SourceConfig, VideoFolderSource
from lapa.config.sources import WebDatasetSource
from lapa.data import convert_lerobot_file, convert_webdataset
from lapa.data.convert import convert
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays, episode_frames
from lapa.data.ingest import ingest
from lapa.data.readers.build import build_reader
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode
from tests.data.sources import moving_square, truncate, write_clips, write_lerobot, write_video
from tests.s3_server import S3Server, s3

__all__ = ["s3"]  # the fixture


def ingested(source: SourceConfig, folder: Path) -> Dataset:
    ingest(IngestConfig(source=source, image_size=32, workers=1), str(folder))
    return Dataset.open(str(folder))


@pytest.fixture
def robot(tmp_path: Path) -> Dataset:
    """Five episodes with actions."""
    return ingested(
        LeRobotSource(url=str(write_lerobot(tmp_path / "raw", [5, 9, 7, 4, 6])), licence="CC0-1.0"), tmp_path / "ours"
    )


def read_all(source: SourceConfig) -> list[Episode | SourceError]:
    reader = build_reader(source)
    return [episode for item in reader.items() for episode in reader.read(item)]


def assert_same(episode: Episode, dataset: Dataset, row: int) -> None:
    arrays = episode_arrays(dataset, row)
    assert np.array_equal(np.stack(list(episode.frames())), episode_frames(dataset, row))
    assert np.array_equal(episode.actions, arrays["actions"])
    assert np.array_equal(episode.proprioception, arrays["proprioception"])
    assert episode.instruction == dataset.index["instruction"][row].as_py()
    assert episode.fps == dataset.index["fps"][row].as_py()
    assert episode.action_names == dataset.info.action_names


# LeRobot v3


@pytest.mark.parametrize("video_bytes", [1, 10**9])
def test_a_dataset_goes_to_lerobot_and_comes_back_without_a_changed_pixel(tmp_path, robot, monkeypatch, video_bytes):
    monkeypatch.setattr(convert_lerobot_file, "VIDEO_BYTES", video_bytes)
    converted = convert(robot, "lerobot-v3", str(tmp_path / "out"))
    assert (converted.episodes, converted.frames) == (5, 31)
    assert converted.files == 5 + 2 * (5 if video_bytes == 1 else 1)
    episodes = read_all(LeRobotSource(url=str(tmp_path / "out")))
    assert len(episodes) == 5 and episodes[0].embodiment == "toy_arm"
    for row, episode in enumerate(episodes):
        assert_same(episode, robot, row)


def test_what_is_written_says_of_itself_what_is_true(tmp_path, robot):
    convert(robot, "lerobot-v3", str(tmp_path / "out"))
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (5, 31, 5, 10)
    assert info["splits"] == {"train": "0:5"} and info["features"]["action"]["shape"] == [3]
    statistics = json.loads((tmp_path / "out/meta/stats.json").read_text())
    for name in ("mean", "std", "min", "max"):
        assert statistics["action"][name] == pytest.approx(getattr(robot.info.actions, name), abs=1e-5)
    pixels = np.concatenate([episode_frames(robot, row)[::8] for row in range(5)]) / 255
    mean = [channel[0][0] for channel in statistics["observation.images.camera"]["mean"]]
    # Weighted by measured frames: the same numbers as over all of them at once.
    assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2)).tolist(), abs=1e-6)
    # lerobot reads tasks with pandas, by their text as the index.
    assert pd.read_parquet(tmp_path / "out/meta/tasks.parquet").loc["move to spot 3", "task_index"] == 3
    assert "CC0-1.0: 5 episodes" in (tmp_path / "out/README.md").read_text()


def test_videos_without_actions_become_a_lerobot_dataset_without_them(tmp_path):
    dataset = ingested(VideoFolderSource(url=str(write_clips(tmp_path / "raw", 2))), tmp_path / "ours")
    convert(dataset, "lerobot-v3", str(tmp_path / "out"))
    first, _ = read_all(LeRobotSource(url=str(tmp_path / "out")))
    assert first.actions is None and first.instruction == ""
    assert np.array_equal(np.stack(list(first.frames())), episode_frames(dataset, 0))


def test_two_frame_rates_are_refused_with_what_to_do(tmp_path):
    for fps in (5, 10):
        write_video(tmp_path / f"raw/{fps}.mp4", moving_square(6), fps=fps)
    dataset = ingested(VideoFolderSource(url=str(tmp_path / "raw")), tmp_path / "ours")
    with pytest.raises(ConfigError, match=r"holds episodes at 5, 10 fps.*`fps`"):
        convert(dataset, "lerobot-v3", str(tmp_path / "out"))
    assert not files.exists(str(tmp_path / "out"))


@pytest.mark.parametrize("target", ["lerobot-v3", "webdataset"])
def test_a_place_with_files_is_left_alone(tmp_path, robot, target):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("keep")
    with pytest.raises(ConfigError, match="not empty"):
        convert(robot, target, str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


@pytest.mark.parametrize("target", ["lerobot-v3", "webdataset"])
def test_a_bucket_is_written_and_read_back(s3: S3Server, tmp_path, robot, target):
    url = f"{s3.new_bucket(f'convert-{target}')}/out"
    convert(robot, target, url)
    source = LeRobotSource(url=url) if target == "lerobot-v3" else WebDatasetSource(url=url)
    for row, episode in enumerate(read_all(source)):
        assert_same(episode, robot, row)


# WebDataset


def test_a_dataset_goes_to_webdataset_and_comes_back_with_everything(tmp_path, robot, monkeypatch):
    monkeypatch.setattr(convert_webdataset, "SHARD_BYTES", 1)
    assert convert(robot, "webdataset", str(tmp_path / "out")).files == 5
    episodes = read_all(WebDatasetSource(url=str(tmp_path / "out")))
    for row, episode in enumerate(episodes):
        assert_same(episode, robot, row)
        assert (episode.licence, episode.embodiment) == ("CC0-1.0", "toy_arm")


def test_the_webdataset_package_decodes_what_is_written(tmp_path, robot):
    convert(robot, "webdataset", str(tmp_path / "out"))
    tar = tmp_path / "out/shard-000000.tar"
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == robot.index["episode"].to_pylist()
    assert samples[1]["actions.npy"].shape == (9, 3)
    assert samples[1]["txt"] == "move to spot 1" and samples[1]["json"]["fps"] == 10


def test_tars_that_the_webdataset_package_wrote_are_read(tmp_path):
    clip = write_video(tmp_path / "clip.webm", moving_square(6))
    actions = np.arange(12, dtype=np.float64).reshape(6, 2)
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        sink.write({"__key__": "000", "webm": clip.read_bytes(), "txt": " push ", "actions.npy": actions})
        sink.write({"__key__": "001", "jpg": b"", "txt": "a picture"})
        sink.write({"__key__": "002", "webm": clip.read_bytes(), "json": {"instruction": "pull", "fps": 10}})
    first, picture, last = read_all(WebDatasetSource(url=str(tmp_path / "a.tar"), licence="MIT"))
    assert (first.instruction, first.licence) == ("push", "MIT") and np.array_equal(first.actions, actions)
    assert isinstance(picture, SourceError) and "a.tar#001 has no video" in str(picture)
    assert last.instruction == "pull" and last.actions is None and len(list(last.frames())) == 6


def test_a_tar_cut_short_gives_the_samples_before_and_a_named_error(tmp_path, robot):
    convert(robot, "webdataset", str(tmp_path / "out"))
    truncate(tmp_path / "out/shard-000000.tar")
    reader = build_reader(WebDatasetSource(url=str(tmp_path / "out")))
    read = []
    with pytest.raises(SourceError, match=r"shard-000000\.tar is damaged after episode_"):
        read.extend(reader.read(reader.items()[0]))
    assert all(isinstance(episode, Episode) for episode in read)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("json", b"{", "is not JSON"),
        ("json", b'{"fps": -1}', "fps -1"),
        ("actions.npy", b"\x93NUMPY", "no array"),
        ("actions.npy", b"", "no array"),
    ],
)
def test_a_damaged_member_fails_its_sample_alone(tmp_path, member, content, message):
    clip = write_video(tmp_path / "clip.mp4", moving_square(6)).read_bytes()
    with webdataset.TarWriter(str(tmp_path / "a.tar"), encoder=False) as sink:
        sink.write({"__key__": "000", "mp4": clip, member: content})
        sink.write({"__key__": "001", "mp4": clip})
    damaged, whole = read_all(WebDatasetSource(url=str(tmp_path / "a.tar")))
    assert isinstance(damaged, SourceError) and message in str(damaged)
    assert isinstance(whole, Episode)
