"""From sources to datasets: the same bytes every time, however the ingest was run, and no failure unnamed."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from lapa import files
from lapa.config.data import (
    FileNameInstructions,
    IngestConfig,
    LeRobotSource,
    SidecarInstructions,
    SourceConfig,
    VideoFolderSource,
)
from lapa.data import ingest_plan
from lapa.data.dataset import Dataset
from lapa.data.describe import describe_dataset
from lapa.data.frames import episode_arrays, episode_frames
from lapa.data.ingest import ingest, is_current
from lapa.data.labels import EpisodeLabels, Labels, LabelStamp, LabelWriter
from lapa.errors import ConfigError, DataError, DatasetNotFound, SourceError, TooManyFailures
from tests.data.sources import (
    moving_square,
    stored_member,
    truncate,
    write_clips,
    write_lerobot,
    write_lerobot_table,
    write_video,
)


def config_for(source: SourceConfig, **settings) -> IngestConfig:
    return IngestConfig(**{"source": source, "image_size": 32, "workers": 1} | settings)


def clips(folder: Path, **settings) -> IngestConfig:
    return config_for(VideoFolderSource(url=str(folder)), **settings)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    """Of whole shards: what a killed process was at has another name, and goes."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "shards").glob("*.tar")}


def test_ingesting_twice_writes_the_same_bytes(tmp_path):
    source = write_clips(tmp_path / "videos", 5)
    for name in ("first", "second"):
        ingest(clips(source, episodes_per_shard=2), str(tmp_path / name))
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_the_number_of_processes_does_not_change_a_byte(tmp_path):
    source = write_clips(tmp_path / "videos", 5)
    for workers in (1, 2):
        ingest(clips(source, episodes_per_shard=2, workers=workers), str(tmp_path / str(workers)))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_revision_does_not_depend_on_how_episodes_are_cut_into_shards(tmp_path):
    source = write_clips(tmp_path / "videos", 5)
    revisions = {
        ingest(clips(source, episodes_per_shard=size), str(tmp_path / str(size))).revision for size in (2, 100)
    }
    assert len(revisions) == 1
    assert Dataset.open(str(tmp_path / "2")).info.num_shards == 3


def test_an_unchanged_source_is_left_alone(tmp_path):
    source = write_clips(tmp_path / "videos", 3)
    first = ingest(clips(source), str(tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert ingest(clips(source), str(tmp_path / "out")) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_only_the_shards_of_changed_videos_are_made_again(tmp_path):
    source = write_clips(tmp_path / "videos", 6)
    output = tmp_path / "out"
    before_revision = ingest(clips(source, episodes_per_shard=2), str(output)).revision
    before = times(output)
    write_video(source / "push_the_cup_005.mp4", moving_square(11))
    report = ingest(clips(source, episodes_per_shard=2), str(output))
    changed = {name for name, moment in times(output).items() if before[name] != moment}
    assert changed == {"shard-00002.tar"}
    assert report.revision != before_revision


def test_a_dataset_begun_in_an_older_format_holds_no_shard_of_it_when_it_is_finished(tmp_path, monkeypatch):
    config = clips(write_clips(tmp_path / "videos", 4), episodes_per_shard=2)
    output = tmp_path / "out"
    with monkeypatch.context() as older:
        older.setattr(ingest_plan, "FORMAT_VERSION", ingest_plan.FORMAT_VERSION - 1)
        ingest(config, str(output))
    assert len(Dataset.open(str(output)).index) == 4, "what was finished is read as before"
    assert not is_current(config, str(output))
    (output / "shards" / "shard-00001.tar").unlink()
    before = times(output)
    ingest(config, str(output))
    assert times(output)["shard-00000.tar"] != before["shard-00000.tar"]
    assert is_current(config, str(output))


@pytest.mark.parametrize("damage", [Path.unlink, truncate], ids=["deleted", "cut short"])
def test_a_shard_that_is_not_whole_is_made_again(tmp_path, damage):
    config = clips(write_clips(tmp_path / "videos", 6), episodes_per_shard=2)
    output = tmp_path / "out"
    revision = ingest(config, str(output)).revision
    before, times_before = contents(output), times(output)
    damage(output / "shards" / "shard-00001.tar")
    assert not is_current(config, str(output))
    with pytest.raises(DataError, match=r"shard-00001\.tar .*[Rr]un the ingest stage again"):
        [episode_frames(Dataset.open(str(output)), row) for row in (2, 3)]

    assert ingest(config, str(output)).revision == revision
    assert contents(output) == before
    assert {name for name, moment in times(output).items() if times_before[name] != moment} == {"shard-00001.tar"}
    assert is_current(config, str(output))


@pytest.mark.parametrize("name", ["index.parquet", "dataset.json"])
def test_a_damaged_table_of_contents_is_named_and_made_again(tmp_path, name):
    config = clips(write_clips(tmp_path / "videos", 2))
    output = tmp_path / "out"
    revision = ingest(config, str(output)).revision
    (output / name).write_bytes(b"{")
    with pytest.raises(DataError, match=rf"{name} is .*Delete it and run the ingest stage again"):
        Dataset.open(str(output))
    (output / name).unlink()
    with pytest.raises(DataError, match=r"[Rr]un the ingest stage again"):
        Dataset.open(str(output))
    assert ingest(config, str(output)).revision == revision
    assert len(Dataset.open(str(output))) == 2


def test_removed_videos_leave_no_shard_behind(tmp_path):
    source = write_clips(tmp_path / "videos", 6)
    output = tmp_path / "out"
    ingest(clips(source, episodes_per_shard=2), str(output))
    for number in (4, 5):
        (source / f"push_the_cup_{number:03d}.mp4").unlink()
    ingest(clips(source, episodes_per_shard=2), str(output))
    assert sorted(times(output)) == ["shard-00000.tar", "shard-00001.tar"]
    assert len(Dataset.open(str(output))) == 4


def test_other_settings_make_the_dataset_anew(tmp_path):
    source = write_clips(tmp_path / "videos", 2)
    small = ingest(clips(source), str(tmp_path / "out"))
    large = ingest(clips(source, image_size=64), str(tmp_path / "out"))
    assert Dataset.open(str(tmp_path / "out")).info.image_size == 64
    assert small.revision != large.revision


def test_a_killed_ingest_continues_to_the_same_dataset(tmp_path):
    source = write_clips(tmp_path / "videos", 12, num_frames=10)
    config = clips(source, episodes_per_shard=1, workers=2)
    whole = ingest(config, str(tmp_path / "whole")).revision
    program = (
        "import os, signal, sys\n"
        "from lapa.config.data import IngestConfig\n"
        "from lapa.data.ingest import ingest\n"
        "def progress(done, total, message):\n"
        "    if done == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    ingest(IngestConfig.model_validate_json(sys.argv[1]), sys.argv[2], progress=progress)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    output = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, script, config.model_dump_json(), output], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(DatasetNotFound):
        Dataset.open(str(output))
    recorded = {path.stem for path in (output / "_units").glob("*.json")}
    kept = times(output)
    assert len(recorded) >= 3
    found = []
    assert ingest(config, str(output), found=lambda *shards: found.append(shards)).revision == whole
    [(there, shards)] = found
    assert 3 <= there < shards == 12
    made_again = {name for name, moment in kept.items() if times(output)[name] != moment}
    assert len(made_again) <= config.workers, "a killed process loses more than the shard that it was in"
    assert not made_again & {f"shard-{number}.tar" for number in recorded}


def test_a_damaged_video_is_named_and_the_others_are_kept(tmp_path):
    source = write_clips(tmp_path / "videos", 4)
    truncate(source / "push_the_cup_002.mp4")
    report = ingest(clips(source, max_failed_share=0.5), str(tmp_path / "out"))
    assert [problem.source for problem in report.failed] == ["push_the_cup_002.mp4"]
    assert report.num_episodes == 3
    assert "push_the_cup_002" not in str(Dataset.open(str(tmp_path / "out")).index["source"].to_pylist())


def test_too_many_damaged_videos_stop_the_ingest_with_their_names(tmp_path):
    source = write_clips(tmp_path / "videos", 4)
    for number in (1, 2):
        truncate(source / f"push_the_cup_{number:03d}.mp4")
    with pytest.raises(TooManyFailures, match=r"2 of 4 sources failed.*push_the_cup_001\.mp4"):
        ingest(clips(source, max_failed_share=0.25), str(tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "ingest-report.json").read_text())
    assert [problem["source"] for problem in report["failed"]] == ["push_the_cup_001.mp4", "push_the_cup_002.mp4"]
    with pytest.raises(DatasetNotFound):
        Dataset.open(str(tmp_path / "out"))


def test_short_videos_are_skipped_and_named_without_counting_as_failures(tmp_path):
    source = write_clips(tmp_path / "videos", 2)
    write_video(source / "short.mp4", moving_square(3))
    report = ingest(clips(source, min_frames=5, max_failed_share=0), str(tmp_path / "out"))
    assert [problem.source for problem in report.skipped] == ["short.mp4"]
    assert "3 frames" in report.skipped[0].reason
    assert report.num_episodes == 2


def test_a_shard_without_any_episode_can_be_labelled_like_the_others(tmp_path):
    source = write_clips(tmp_path / "videos", 6)
    for number in (2, 3):
        write_video(source / f"push_the_cup_{number:03d}.mp4", moving_square(3))
    ingest(clips(source, min_frames=5, episodes_per_shard=2), str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.index["shard"].to_pylist() == [0, 0, 2, 2]
    stamp = LabelStamp(
        dataset_revision=dataset.revision,
        labeller_digest="none",
        labeller_kind="latent-action",
        window_seconds=0.1,
        image_size=32,
        codes_per_pair=4,
        codebook_size=8,
    )
    writer = LabelWriter(str(tmp_path / "labels"), stamp)
    ids = dataset.index["episode"].to_pylist()
    codes, vectors = np.ones((7, 4), np.int64), np.zeros((7, 4, 2), np.float32)
    for shard in writer.missing_shards(dataset):
        rows = [row for row, stored in enumerate(dataset.index["shard"].to_pylist()) if stored == shard]
        writer.write_shard(shard, [EpisodeLabels(episode=ids[row], codes=codes, vectors=vectors) for row in rows])
    writer.finish(dataset)
    labels = Labels.open(str(tmp_path / "labels"))
    assert [labels.codes_of(row).shape for row in range(4)] == [(7, 4)] * 4


def test_a_source_that_gives_no_episode_is_an_error(tmp_path):
    source = write_clips(tmp_path / "videos", 1, num_frames=3)
    with pytest.raises(SourceError, match="no episode of 1 sources could be kept"):
        ingest(clips(source, min_frames=5), str(tmp_path / "out"))


@pytest.mark.parametrize("ending", ["mp4", "webm", "mkv", "avi"])
def test_one_video_of_any_container_is_a_source(tmp_path, ending):
    path = write_video(tmp_path / f"clip.{ending}", moving_square(9))
    ingest(config_for(VideoFolderSource(url=str(path))), str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.index["num_frames"].to_pylist() == [9]
    assert dataset.info.fps == (10.0,)


def test_instructions_come_from_file_names(tmp_path):
    source = VideoFolderSource(url=str(write_clips(tmp_path / "videos", 2)), instructions=FileNameInstructions())
    ingest(config_for(source), str(tmp_path / "out"))
    assert Dataset.open(str(tmp_path / "out")).index["instruction"].to_pylist() == ["push the cup"] * 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words.json", '{"push_the_cup_000.mp4": "push", "push_the_cup_001.mp4": "pull"}'),
        (
            "list.json",
            '[{"file": "push_the_cup_000.mp4", "instruction": "push"},'
            ' {"file": "push_the_cup_001.mp4", "instruction": "pull"}]',
        ),
        ("table.csv", "file,instruction\npush_the_cup_000.mp4,push\npush_the_cup_001.mp4,pull\n"),
    ],
)
def test_instructions_come_from_a_sidecar(tmp_path, name, text):
    folder = write_clips(tmp_path / "videos", 2)
    (folder / name).write_text(text)
    source = VideoFolderSource(url=str(folder), instructions=SidecarInstructions(file=name))
    ingest(config_for(source), str(tmp_path / "out"))
    assert Dataset.open(str(tmp_path / "out")).index["instruction"].to_pylist() == ["push", "pull"]


def test_a_changed_instruction_changes_the_dataset(tmp_path):
    folder = write_clips(tmp_path / "videos", 1)
    source = VideoFolderSource(url=str(folder), instructions=SidecarInstructions())
    for word in ("push", "pull"):
        (folder / "instructions.json").write_text(json.dumps({"push_the_cup_000.mp4": word}))
        ingest(config_for(source), str(tmp_path / "out"))
        assert Dataset.open(str(tmp_path / "out")).index["instruction"].to_pylist() == [word]


def test_frames_are_dropped_to_a_lower_rate_and_never_raised(tmp_path):
    source = tmp_path / "videos"
    write_video(source / "fast.mp4", moving_square(30), fps=30)
    write_video(source / "slow.mp4", moving_square(10), fps=5)
    ingest(clips(source, fps=10), str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.index["num_frames"].to_pylist() == [10, 10]
    assert dataset.index["fps"].to_pylist() == [10.0, 5.0]


def test_actions_that_mean_nothing_known_are_not_brought_to_another_rate(tmp_path):
    source = LeRobotSource(url=str(write_lerobot(tmp_path / "robot", [6])))
    with pytest.raises(ConfigError, match="whether joint_0 is absolute, a delta or a velocity is not known"):
        ingest(config_for(source, fps=5), str(tmp_path / "out"))


def test_crop_cuts_the_longer_side_and_squash_keeps_it(tmp_path):
    frames = np.zeros((4, 48, 96, 3), np.uint8)
    frames[:, :, :20] = 255  # outside the middle square
    write_video(tmp_path / "videos" / "wide.mp4", frames)
    brightness = {}
    for mode in ("crop", "squash"):
        ingest(clips(tmp_path / "videos", resize=mode), str(tmp_path / mode))
        brightness[mode] = Dataset.open(str(tmp_path / mode)).info.frame_mean[0]
    assert brightness["crop"] < 0.03
    assert brightness["squash"] == pytest.approx(20 / 96, abs=0.03)


def test_members_are_found_by_byte_range_and_by_webdataset(tmp_path):
    source = LeRobotSource(url=str(write_lerobot(tmp_path / "robot", [5, 7])))
    ingest(config_for(source), str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    samples = list(webdataset.WebDataset(dataset.shard_url(0), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == dataset.index["episode"].to_pylist()
    for number, (row, sample) in enumerate(zip(dataset.index.to_pylist(), samples, strict=True)):
        assert stored_member(dataset, number, "video") == sample["mp4"]
        assert len(episode_frames(dataset, number)) == row["num_frames"]
        assert stored_member(dataset, number, "arrays") == sample["npz"]
        assert episode_arrays(dataset, number)["actions"].shape == (row["num_frames"], 3)
        assert json.loads(sample["json"])["instruction"] == row["instruction"]


def test_shards_hold_no_time_and_no_user(tmp_path):
    ingest(clips(write_clips(tmp_path / "videos", 1)), str(tmp_path / "out"))
    with tarfile.open(tmp_path / "out" / "shards" / "shard-00000.tar") as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_statistics_are_those_of_the_actions_themselves(tmp_path):
    source = LeRobotSource(url=str(write_lerobot(tmp_path / "robot", [5, 9, 7])))
    ingest(config_for(source, episodes_per_shard=2), str(tmp_path / "out"))
    info = Dataset.open(str(tmp_path / "out")).info
    actions = np.array([(e, t, 0) for e, length in enumerate([5, 9, 7]) for t in range(length)], np.float64)
    assert info.actions is not None
    assert info.has_actions and info.action_dims == 3 and info.action_names == ("joint_0", "joint_1", "joint_2")
    np.testing.assert_allclose(info.actions.mean, actions.mean(axis=0))
    np.testing.assert_allclose(info.actions.std, actions.std(axis=0))
    np.testing.assert_allclose(info.actions.q01, np.quantile(actions, 0.01, axis=0), atol=1e-6)
    np.testing.assert_allclose(info.actions.max, actions.max(axis=0))


def test_actions_that_are_not_finite_fail_their_episode(tmp_path):
    folder = write_lerobot(tmp_path / "robot", [5, 5])
    actions = np.zeros((5, 3), np.float32)
    actions[3, 1] = np.nan
    write_lerobot_table(folder, 1, actions)
    report = ingest(config_for(LeRobotSource(url=str(folder)), max_failed_share=0.5), str(tmp_path / "out"))
    assert len(report.failed) == 1
    assert "NaN or infinite at 1 timesteps, first at 3" in report.failed[0].reason


def test_progress_counts_sources_up_to_all_of_them(tmp_path):
    told = []
    source = write_clips(tmp_path / "videos", 3)
    ingest(clips(source, episodes_per_shard=1), str(tmp_path / "out"), progress=lambda *now: told.append(now[:2]))
    assert told[-3:] == [(1, 3), (2, 3), (3, 3)]


def test_a_dataset_in_memory_is_as_good_as_one_on_disk(tmp_path):
    source = write_clips(tmp_path / "videos", 2)
    on_disk = ingest(clips(source), str(tmp_path / "out"))
    assert ingest(clips(source), "memory://test-ingest/out") == on_disk
    assert len(Dataset.open("memory://test-ingest/out")) == 2
    files.remove("memory://test-ingest")


def test_a_description_names_what_a_dataset_holds(tmp_path):
    source = LeRobotSource(url=str(write_lerobot(tmp_path / "robot", [5, 7])), licence="CC0-1.0")
    ingest(config_for(source), str(tmp_path / "out"))
    described = describe_dataset(Dataset.open(str(tmp_path / "out")))
    assert described["episodes"] == 2 and described["frames"] == 12
    assert described["hours"] == pytest.approx(1.2 / 3600, abs=1e-4)
    assert described["licences"] == {"CC0-1.0": 2}
    assert described["instructions"] == {"move to spot 0": 1, "move to spot 1": 1}
    assert [dimension["name"] for dimension in described["actions"]] == ["joint_0", "joint_1", "joint_2"]
    json.dumps(described)
