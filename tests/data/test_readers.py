"""Source formats: what each reader understands, and how it says what it cannot read."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import (
    FileNameInstructions,
    LeRobotSource,
    RldsSource,
    SidecarInstructions,
    SourceConfig,
    TabletopSource,
    VideoFolderSource,
)
from lapa.data.readers import rlds
from lapa.data.readers.build import build_reader
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode
from tests.data.sources import (
    moving_square,
    write_clips,
    write_lerobot,
    write_lerobot_table,
    write_rlds,
    write_video,
)


def read_all(config: SourceConfig) -> list[Episode | SourceError]:
    reader = build_reader(config)
    return [episode for item in reader.items() for episode in reader.read(item)]


def rlds_source(folder: Path, **settings) -> RldsSource:
    return RldsSource(**{"url": str(folder), "fps": 5} | settings)


# videos


def test_a_folder_is_read_in_the_order_of_its_names_and_below(tmp_path):
    for name in ("b.mp4", "a/deep.mp4", "c.MP4", ".hidden.mp4", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    items = build_reader(VideoFolderSource(url=str(tmp_path))).items()
    assert [item.key for item in items] == ["a/deep.mp4", "b.mp4", "c.MP4"]


def test_ids_are_unique_file_names_without_dots_in_any_script(tmp_path):
    names = ["clip 1.mp4", "clip-1.mp4", "clip.1.mp4", "clip.1.webm", "ролик.mp4", "影片.mp4"]
    for name in names:
        write_video(tmp_path / name, moving_square(3))
    ids = [episode.id for episode in read_all(VideoFolderSource(url=str(tmp_path)))]
    assert len(set(ids)) == len(names)
    assert all(name.isascii() and "." not in name and "/" not in name and " " not in name for name in ids)


def test_a_folder_without_videos_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(SourceError, match="holds no video"):
        build_reader(VideoFolderSource(url=str(tmp_path)))


def test_a_touched_file_changes_the_fingerprint_of_its_own_item_only(tmp_path):
    write_clips(tmp_path, 2)
    before = list(build_reader(VideoFolderSource(url=str(tmp_path))).items())
    write_video(tmp_path / "push_the_cup_001.mp4", moving_square(9))
    after = build_reader(VideoFolderSource(url=str(tmp_path))).items()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def test_a_pattern_without_its_group_is_refused(tmp_path):
    write_clips(tmp_path, 1)
    rule = FileNameInstructions(pattern=r"(\w+)")
    with pytest.raises(ConfigError, match="group named `instruction`"):
        build_reader(VideoFolderSource(url=str(tmp_path), instructions=rule))


@pytest.mark.parametrize("text", ["{", "[1, 2]", '[{"file": "a.mp4"}]'])
def test_an_unreadable_sidecar_is_refused(tmp_path, text):
    write_clips(tmp_path, 1)
    (tmp_path / "instructions.json").write_text(text)
    with pytest.raises(SourceError, match="sidecar"):
        build_reader(VideoFolderSource(url=str(tmp_path), instructions=SidecarInstructions()))


# LeRobot


def test_lerobot_episodes_carry_actions_names_instruction_and_robot(tmp_path):
    write_lerobot(tmp_path, [5, 7])
    first, second = read_all(LeRobotSource(url=str(tmp_path)))
    assert second.actions.tolist() == [[1, t, 0] for t in range(7)]
    assert second.proprioception.tolist() == [[t, -t] for t in range(7)]
    assert second.action_names == ("joint_0", "joint_1", "joint_2")
    assert (first.instruction, second.instruction) == ("move to spot 0", "move to spot 1")
    assert second.embodiment == "toy_arm" and second.fps == 10
    assert len(list(second.frames())) == 7


def test_a_table_and_a_video_that_disagree_are_an_error_naming_both_lengths(tmp_path):
    write_lerobot(tmp_path, [6])
    write_lerobot_table(tmp_path, 0, np.zeros((4, 3), np.float32))
    (error,) = read_all(LeRobotSource(url=str(tmp_path)))
    assert isinstance(error, SourceError)
    assert re.search(r"has 6 frames but .* has 4 rows", str(error))


def test_a_camera_without_files_is_refused_with_those_that_exist(tmp_path):
    write_lerobot(tmp_path, [4])
    with pytest.raises(SourceError, match=r"files exist for \['observation\.images\.front'\]"):
        build_reader(LeRobotSource(url=str(tmp_path), camera="observation.images.wrist"))


def test_a_missing_table_fails_only_its_episode(tmp_path):
    write_lerobot(tmp_path, [4, 4])
    (tmp_path / "data/chunk-000/episode_000000.parquet").unlink()
    reader = build_reader(LeRobotSource(url=str(tmp_path)))
    first, second = reader.items()
    with pytest.raises(SourceError, match=r"episode_000000\.parquet is declared"):
        list(reader.read(first))
    assert len(list(reader.read(second))) == 1


@pytest.mark.parametrize("column", ["action_column", "proprioception_column"])
def test_an_unknown_column_is_refused_with_those_that_exist(tmp_path, column):
    write_lerobot(tmp_path, [4])
    with pytest.raises(SourceError, match=r"no column 'torque'.*observation\.state"):
        build_reader(LeRobotSource(url=str(tmp_path), **{column: "torque"}))


def test_another_version_is_refused(tmp_path):
    write_lerobot(tmp_path, [4])
    info = tmp_path / "meta" / "info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"codebase_version": "v1.6"}))
    with pytest.raises(SourceError, match=r"is LeRobot v1\.6.*lerobot package"):
        build_reader(LeRobotSource(url=str(tmp_path)))


def write_info(folder: Path, **changes) -> None:
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_an_unreadable_info_is_refused(tmp_path, text):
    write_lerobot(tmp_path, [4])
    (tmp_path / "meta" / "info.json").write_text(text)
    with pytest.raises(SourceError, match=r"meta/info\.json .*[Ee]xport or download it again"):
        build_reader(LeRobotSource(url=str(tmp_path)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fps", None),
        ("fps", "ten"),
        ("fps", -1),
        ("features", ["action"]),
        ("features", {"action": "float32"}),
        ("data_path", "data/{episode}.parquet"),
        ("video_path", "videos/{video_key"),
        ("chunks_size", "many"),
    ],
)
def test_an_info_with_an_unusable_value_is_refused_with_its_key(tmp_path, key, value):
    write_lerobot(tmp_path, [4])
    write_info(tmp_path, **{key: value})
    with pytest.raises(SourceError, match=rf"meta/info\.json.*{key}"):
        build_reader(LeRobotSource(url=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "line", "key"),
    [
        ("episodes.jsonl", '{"length": 4}', "episode_index"),
        ("episodes.jsonl", "7", "episode_index"),
        ("tasks.jsonl", '{"task_index": 0}', "task"),
        ("tasks.jsonl", '{"task_index": "first", "task": "push"}', "task_index"),
    ],
)
def test_a_line_without_its_key_is_refused_with_its_number(tmp_path, name, line, key):
    write_lerobot(tmp_path, [4])
    with (tmp_path / "meta" / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SourceError, match=rf"meta/{name}, line 2: no valid .*{key}"):
        build_reader(LeRobotSource(url=str(tmp_path)))


# RLDS


def test_rlds_episodes_carry_actions_state_and_instruction(tmp_path):
    write_rlds(tmp_path, 3)
    episodes = read_all(rlds_source(tmp_path))
    assert [episode.instruction for episode in episodes] == ["task 0", "task 1", "task 2"]
    assert episodes[2].actions.tolist() == [[2, t] for t in range(6)]
    assert episodes[2].proprioception.shape == (6, 2)
    assert np.array_equal(np.stack(list(episodes[1].frames())), moving_square(6, shade=101))


def test_a_large_file_is_cut_into_runs_that_together_give_every_episode(tmp_path, monkeypatch):
    write_rlds(tmp_path, 5)
    monkeypatch.setattr(rlds, "RECORDS_PER_ITEM", 2)
    reader = build_reader(rlds_source(tmp_path))
    items = reader.items()
    assert [item.episodes for item in items] == [2, 2, 1]
    read = [[episode.instruction for episode in reader.read(item)] for item in items]
    assert read == [["task 0", "task 1"], ["task 2", "task 3"], ["task 4"]]


def test_without_dataset_info_whole_files_are_read(tmp_path):
    write_rlds(tmp_path, 3)
    (tmp_path / "dataset_info.json").unlink()
    assert len(read_all(rlds_source(tmp_path))) == 3


def test_a_record_that_fails_its_checksum_is_named_and_the_next_ones_are_read(tmp_path):
    write_rlds(tmp_path, 3)
    (file,) = tmp_path.glob("*.tfrecord-*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF  # inside the second of three equal records
    file.write_bytes(data)
    first, second, third = read_all(rlds_source(tmp_path))
    assert isinstance(second, SourceError) and "record 1 does not match its checksum" in str(second)
    assert (first.instruction, third.instruction) == ("task 0", "task 2")


def test_a_file_cut_short_is_an_error(tmp_path):
    write_rlds(tmp_path, 3)
    (file,) = tmp_path.glob("*.tfrecord-*")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SourceError, match="record 2 is cut short"):
        read_all(rlds_source(tmp_path))


def test_an_unknown_key_names_those_that_exist(tmp_path):
    write_rlds(tmp_path, 1)
    (error,) = read_all(rlds_source(tmp_path, image_key="image_7"))
    assert isinstance(error, SourceError)
    assert "no feature 'image_7'" in str(error) and "observation/image_0" in str(error)


def test_an_unknown_split_names_those_that_exist(tmp_path):
    write_rlds(tmp_path, 1)
    with pytest.raises(SourceError, match=r"splits found: \['train'\]"):
        build_reader(rlds_source(tmp_path, split="val"))


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"splits": [1]}', '{"splits": [{"name": "train", "shardLengths": ["?"]}]}']
)
def test_an_unreadable_dataset_info_is_refused_with_what_to_do(tmp_path, text):
    write_rlds(tmp_path, 1)
    (tmp_path / "dataset_info.json").write_text(text)
    with pytest.raises(SourceError, match=r"dataset_info\.json is damaged.*remove it"):
        build_reader(rlds_source(tmp_path))


def test_an_instruction_key_of_numbers_is_an_error_that_names_it(tmp_path):
    write_rlds(tmp_path, 1)
    (error,) = read_all(rlds_source(tmp_path, instruction_key="state"))
    assert isinstance(error, SourceError)
    assert "'state' holds numbers" in str(error) and "source.instruction_key" in str(error)


def test_a_tabletop_must_be_recorded_first():
    with pytest.raises(ConfigError, match="Record it first"):
        build_reader(TabletopSource(record="videos", episodes=1))
