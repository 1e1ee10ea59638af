"""Recordings of the tabletop: videos without actions, and LeRobot demonstrations."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa.config.data import TabletopSource
from lapa.config.tabletop import ALL_KINDS, Distractors, TabletopScene, TabletopTasks
from lapa.data.video import decode, encode_mp4
from lapa.envs.recording import ENCODING, MANIFEST, MAX_ATTEMPTS, first_success
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.instructions import parse_instruction
from lapa.envs.tabletop.recording import record
from lapa.envs.tabletop.rollouts import play_oracle, random_start
from lapa.envs.tabletop.splits import Cell, is_held_out_combination
from lapa.envs.tabletop.tasks import kind_of, objects_of
from lapa.errors import ConfigError

ROBOT = embodiment_of("studio").robot
VIDEOS = TabletopSource(record="videos", episodes=6)
DEMONSTRATIONS = TabletopSource(record="demonstrations", episodes=6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_videos_read_back_with_their_instructions_and_no_actions(tmp_path: Path):
    summary = record(tmp_path, VIDEOS)
    instructions = json.loads((tmp_path / "instructions.json").read_text())
    assert sorted(instructions) == [f"episode_{i:06d}.mp4" for i in range(6)]
    assert all(parse_instruction(instruction) for instruction in instructions.values())
    lengths = [len(list(decode(tmp_path / name))) for name in instructions]
    assert sum(lengths) == summary.frames and summary.episodes == 6 and min(lengths) > 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".json"}


def test_an_expert_that_never_succeeds_ends_the_recording_with_what_to_change():
    outcomes = iter([False, False, True])
    assert first_success(lambda attempt: SimpleNamespace(success=next(outcomes), number=attempt))[1] == 2
    with pytest.raises(ConfigError, match=rf"failed {MAX_ATTEMPTS} times .*Lower the source's action_noise"):
        first_success(lambda attempt: SimpleNamespace(success=False))


def test_small_motions_survive_the_encoding(tmp_path: Path):
    rng = np.random.default_rng(0)
    rollout = play_oracle(random_start(rng, Cell("reach")), rng, noise=0.2)
    frames = np.stack([draw(state, 48) for state in rollout.states]).astype(float)
    decoded = np.stack(list(decode(encode_mp4(frames.astype(np.uint8), 10, ENCODING)))).astype(float)
    motion, kept = np.diff(frames, axis=0), np.diff(decoded, axis=0)
    assert np.corrcoef(motion.mean(-1).ravel(), kept.mean(-1).ravel())[0, 1] > 0.95


def test_demonstrations_are_a_lerobot_dataset_whose_tables_and_videos_agree(tmp_path: Path):
    summary = record(tmp_path, DEMONSTRATIONS)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    episodes, tasks = lines(tmp_path / "meta/episodes.jsonl"), lines(tmp_path / "meta/tasks.jsonl")
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v2.1", 6, summary.frames)
    assert info["features"]["action"]["names"] == ["dx", "dy"] and info["total_tasks"] == len(tasks)
    assert len(lines(tmp_path / "meta/episodes_stats.jsonl")) == 6
    index = 0
    for number, episode in enumerate(episodes):
        path = info["data_path"].format(episode_chunk=0, episode_index=number)
        table = pq.read_table(tmp_path / path)
        length = episode["length"]
        assert table.num_rows == length == len(list(decode(tmp_path / ROBOT.video_path(number))))
        assert table["index"].to_pylist() == list(range(index, index + length))
        assert tasks[table["task_index"][0].as_py()]["task"] == episode["tasks"][0]
        np.testing.assert_allclose(np.diff(table["timestamp"].to_numpy()), 0.1, atol=1e-6)
        actions = np.array(table["action"].to_pylist())
        assert actions.shape == (length, 2) and (np.linalg.norm(actions, axis=1) <= 1 + 1e-6).all()
        # A free pusher goes where the action says; one that pushes is held back a little.
        steps = np.diff(np.array(table["observation.state"].to_pylist()), axis=0)
        assert np.corrcoef(steps.ravel(), actions[:-1].ravel())[0, 1] > 0.9
        index += length


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path):
    source = TabletopSource(record="demonstrations", episodes=130, image_size=32)
    record(tmp_path / "one", source, workers=1)
    record(tmp_path / "two", source, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_videos_and_demonstrations_of_one_seed_are_other_episodes(tmp_path: Path):
    record(tmp_path / "videos", VIDEOS)
    record(tmp_path / "demonstrations", DEMONSTRATIONS)
    first = next(decode(tmp_path / "videos" / "episode_000000.mp4"))
    second = next(decode(tmp_path / "demonstrations" / ROBOT.video_path(0)))
    assert np.abs(first.astype(int) - second).max() > 100


def test_a_finished_recording_is_left_alone_and_other_settings_replace_it(tmp_path: Path):
    folder = tmp_path / "videos"
    summary = record(folder, VIDEOS)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert record(folder, VIDEOS) == summary
    assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    record(folder, VIDEOS.model_copy(update={"episodes": 3}))
    assert len(list(folder.glob("*.mp4"))) == 3


@pytest.mark.parametrize("source", [VIDEOS, DEMONSTRATIONS])
def test_an_interrupted_recording_goes_on_to_the_same_files(tmp_path: Path, source: TabletopSource):
    folder = tmp_path / "recording"
    record(folder, source)
    expected = contents(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "summary": None}))
    kept, *lost = sorted(folder.rglob("*.mp4"))
    written = kept.stat().st_mtime_ns
    for path in lost:
        path.unlink()
    record(folder, source)
    assert contents(folder) == expected
    assert kept.stat().st_mtime_ns == written


def test_other_peoples_files_are_never_overwritten(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(ConfigError, match="Choose an empty folder"):
        record(tmp_path, VIDEOS)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_demonstrations_of_the_workshop_say_whose_they_are_and_hold_only_what_is_seen(tmp_path: Path):
    source = TabletopSource(
        record="demonstrations",
        episodes=24,
        scene=TabletopScene(world="workshop", distractors=Distractors()),
        tasks=TabletopTasks(kinds=ALL_KINDS, splits=("seen",), wordings="any"),
    )
    record(tmp_path, source, workers=1)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["fps"], info["robot_type"]) == (5, "tabletop-workshop")
    assert info["features"]["action"]["names"] == ["forward", "sideways"]
    instructions = [line["task"] for line in lines(tmp_path / "meta/tasks.jsonl")]
    asked = [parse_instruction(instruction) for instruction in instructions]
    assert {kind_of(task) for task in asked} == set(ALL_KINDS)
    assert not any("yellow star" in objects_of(task) or is_held_out_combination(task) for task in asked)
    steps = pq.read_table(tmp_path / "data/chunk-000/episode_000000.parquet")
    moved = np.diff(np.array(steps["observation.state"].to_pylist()), axis=0)
    assert np.corrcoef(moved.ravel(), np.array(steps["action"].to_pylist())[:-1].ravel())[0, 1] > 0.9


def test_distractors_leave_the_recorded_episodes_as_they_are(tmp_path: Path):
    plain = DEMONSTRATIONS.model_copy(update={"episodes": 2})
    disturbed = plain.model_copy(update={"scene": TabletopScene(distractors=Distractors())})
    tables, frames = [], []
    for name, source in (("plain", plain), ("disturbed", disturbed)):
        record(tmp_path / name, source)
        tables.append((tmp_path / name / "data/chunk-000/episode_000001.parquet").read_bytes())
        frames.append(next(decode(tmp_path / name / ROBOT.video_path(1))).astype(int))
    assert tables[0] == tables[1]
    assert np.abs(frames[0] - frames[1]).max() > 50
