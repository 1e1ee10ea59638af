"""LeRobot v3.0, several cameras, pictures in tables, and the statistics of every version."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import IngestConfig, LeRobotSource
from lapa.config.quality import QualityConfig
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.readers import lerobot_v3
from lapa.data.readers.build import build_reader
from lapa.data.splits import split_rows
from lapa.errors import SourceError
from lapa.types.episodes import Episode
from tests.data.lerobot_sources import (
    CAMERAS,
    read_episode_rows,
    write_episode_rows,
    write_lerobot_v3,
    write_lerobot_v3_with_images,
)
from tests.data.sources import moving_square, truncate, write_lerobot


def read_all(folder: Path, **settings) -> list[Episode | SourceError]:
    reader = build_reader(LeRobotSource(url=str(folder), **settings))
    return [episode for item in reader.items() for episode in reader.read(item)]


def shade(frames: np.ndarray) -> np.ndarray:
    """Red of the moving square's middle, in each frame."""
    return np.array([frame[24, 2 * t % 48 + 8, 0] for t, frame in enumerate(frames)])


def test_episodes_of_a_shared_file_get_their_own_rows_frames_and_instruction(tmp_path):
    episodes = read_all(write_lerobot_v3(tmp_path, [5, 8, 6]))
    assert [episode.actions.tolist() for episode in episodes] == [
        [[e, t, 0] for t in range(length)] for e, length in enumerate([5, 8, 6])
    ]
    assert [episode.instruction for episode in episodes] == ["move to spot 0", "move to spot 1", "move to spot 0"]
    assert episodes[1].action_names == ("dx", "dy", "gripper") and episodes[1].embodiment == "toy_arm"
    frames = [np.stack(list(episode.frames())) for episode in episodes]
    assert [len(shown) for shown in frames] == [5, 8, 6]
    for number, shown in enumerate(frames):
        # The square of each episode begins anew at the left: a frame of a neighbour would show another position.
        original = moving_square(len(shown), shade=100 + number).astype(int)
        assert np.abs(shown.astype(int) - original).mean() < 3


def test_an_item_holds_neighbours_in_the_same_files_and_a_bounded_number_of_them(tmp_path, monkeypatch):
    write_lerobot_v3(tmp_path, [4] * 7, per_file=4)
    source = LeRobotSource(url=str(tmp_path))
    assert [item.episodes for item in build_reader(source).items()] == [4, 3]
    monkeypatch.setattr(lerobot_v3, "RUN_EPISODES", 3)
    reader = build_reader(source)
    assert [item.key for item in reader.items()] == [
        "episodes_000000-000002", "episodes_000003-000003", "episodes_000004-000006",
    ]  # fmt: skip
    assert [int(e.actions[0, 0]) for item in reader.items() for e in reader.read(item)] == list(range(7))


@pytest.mark.parametrize("write", [write_lerobot_v3, lambda folder, lengths: write_two_views_v2(folder, lengths)])
def test_each_of_several_cameras_gives_an_episode_that_a_split_keeps_with_the_others(tmp_path, write):
    write(tmp_path / "raw", [5, 6, 7, 5])
    source, alike = LeRobotSource(url=str(tmp_path / "raw"), camera=CAMERAS), QualityConfig(duplicates="off")
    ingest(IngestConfig(source=source, image_size=32, workers=1, quality=alike), str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.info.num_episodes == 8
    names = dataset.index["episode"].to_pylist()
    training, held_out = ({names[row].split("@")[0] for row in rows} for rows in split_rows(dataset, 0.3))
    assert training and held_out and not training & held_out


def write_two_views_v2(folder: Path, lengths: list[int]) -> Path:
    """A v2.1 dataset with a second camera that shows the same."""
    write_lerobot(folder, lengths)
    info = folder / "meta/info.json"
    described = json.loads(info.read_text())
    described["features"][CAMERAS[1]] = described["features"][CAMERAS[0]]
    info.write_text(json.dumps(described))
    videos = folder / "videos/chunk-000"
    shutil.copytree(videos / CAMERAS[0], videos / CAMERAS[1])
    return folder


def test_views_differ_and_share_their_actions(tmp_path):
    front, wrist = read_all(write_lerobot_v3(tmp_path, [6]), camera=CAMERAS)
    assert front.id.split("@")[0] == wrist.id.split("@")[0] and front.id != wrist.id
    assert np.array_equal(front.actions, wrist.actions)
    assert shade(list(wrist.frames())).mean() - shade(list(front.frames())).mean() == pytest.approx(40, abs=5)


def test_pictures_inside_the_table_are_read(tmp_path):
    first, second = read_all(write_lerobot_v3_with_images(tmp_path, [4, 5]))
    assert np.array_equal(np.stack(list(second.frames())), moving_square(5, shade=101))
    assert len(list(first.frames())) == 4
    assert second.source == "data/chunk-000/file-000.parquet#000001"


def test_rows_that_meta_counts_differently_fail_their_episode_alone(tmp_path):
    write_lerobot_v3(tmp_path, [5, 6])
    rows = read_episode_rows(tmp_path)
    rows[0]["length"] = 4
    write_episode_rows(tmp_path, rows)
    damaged, whole = read_all(tmp_path)
    assert "episode 0: meta/episodes counts 4 frames" in str(damaged) and "5 rows" in str(damaged)
    assert len(whole.actions) == 6


def test_a_start_beyond_the_video_is_an_error_that_names_episode_and_file(tmp_path):
    write_lerobot_v3(tmp_path, [5, 6])
    rows = read_episode_rows(tmp_path)
    rows[1][f"videos/{CAMERAS[0]}/from_timestamp"] = 0.9
    write_episode_rows(tmp_path, rows)
    _, late = read_all(tmp_path)
    with pytest.raises(SourceError, match=r"episode 1 in videos/.*file-000\.mp4 has 2 of the 6 frames"):
        list(late.frames())


def test_a_missing_or_truncated_video_fails_its_episodes_and_an_ingest_goes_on(tmp_path):
    write_lerobot_v3(tmp_path / "raw", [5, 5, 5], per_file=1)
    folder = tmp_path / "raw/videos" / CAMERAS[0]
    truncate(folder / "chunk-000/file-000.mp4")
    (folder / "chunk-000/file-001.mp4").unlink()
    config = IngestConfig(
        source=LeRobotSource(url=str(tmp_path / "raw")), image_size=32, workers=1, max_failed_share=0.7
    )
    report = ingest(config, str(tmp_path / "out"))
    assert report.num_episodes == 1
    assert [problem.source for problem in report.failed] == [
        f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4#000000", "episodes_000001-000001",
    ]  # fmt: skip
    assert "file-001.mp4 is declared in meta/" in report.failed[1].reason


@pytest.mark.parametrize("name", ["meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"])
def test_a_damaged_meta_table_is_refused_with_its_name(tmp_path, name):
    write_lerobot_v3(tmp_path, [5])
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=name):
        build_reader(LeRobotSource(url=str(tmp_path)))


def test_a_damaged_table_is_an_error_with_its_name(tmp_path):
    write_lerobot_v3(tmp_path, [5])
    truncate(tmp_path / "data/chunk-000/file-000.parquet")
    with pytest.raises(SourceError, match=r"data/chunk-000/file-000\.parquet cannot be read"):
        read_all(tmp_path)


def test_values_outside_the_declared_statistics_are_told(tmp_path, caplog):
    write_lerobot_v3(tmp_path, [5])
    stats = tmp_path / "meta/stats.json"
    declared = json.loads(stats.read_text())
    declared["action"]["max"][1] = 2
    stats.write_text(json.dumps(declared))
    with caplog.at_level(logging.WARNING):
        read_all(tmp_path)
    assert "event=statistics-differ episode=episode_000000 column=action dimensions=[1]" in caplog.text


def test_statistics_of_episodes_are_pooled_to_those_of_the_dataset(tmp_path):
    write_lerobot(tmp_path, [5, 9])
    values = [np.array([[e, t, 0] for t in range(length)], float) for e, length in enumerate([5, 9])]
    lines = [
        {"episode_index": e, "stats": {"action": described(part) | {"count": [len(part)]}}}
        for e, part in enumerate(values)
    ]
    (tmp_path / "meta/episodes_stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pooled = build_reader(LeRobotSource(url=str(tmp_path))).statistics["action"]
    for name, expected in described(np.concatenate(values)).items():
        assert getattr(pooled, name) == pytest.approx(expected), name


def described(values: np.ndarray) -> dict:
    return {name: getattr(values, name)(axis=0).tolist() for name in ("mean", "std", "min", "max")}


@pytest.mark.parametrize("text", ["{", '{"action": {"min": [0]}}', '{"action": 3}'])
def test_damaged_statistics_are_told_and_the_episodes_read(tmp_path, caplog, text):
    write_lerobot_v3(tmp_path, [5])
    (tmp_path / "meta/stats.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        (episode,) = read_all(tmp_path)
    assert "event=statistics-unreadable" in caplog.text and len(episode.actions) == 5
