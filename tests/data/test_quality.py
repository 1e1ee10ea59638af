"""Clips that teach nothing are found, named, and dropped where that is asked for; no pair crosses a cut."""

import io
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lapa import files
from lapa.config.base import result_settings
from lapa.config.data import ExistingDataset, IngestConfig, MixtureConfig, MixturePart, VideoFolderSource
from lapa.config.quality import QualityConfig
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.ingest_report import IngestReport
from lapa.data.mixture import is_mixed, mix
from lapa.data.mixture_twins import find_mixture_twins
from lapa.data.pictures import Converter, Picture
from lapa.data.quality import look
from lapa.data.quality_cuts import placed_in_scenes
from lapa.data.quality_twins import find_twins
from lapa.data.splits import deciding, split_rows
from lapa.errors import SourceError
from tests.data.sources import write_video

SIDE = 64


def scene(seed: int, num_frames: int, *, speed: int = 2, wobble: int = 0) -> np.ndarray:
    """A square that moves before a background of its own; with `wobble`, in front of an unsteady camera."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    ground = cv2.resize(small, (SIDE + 32, SIDE + 32), interpolation=cv2.INTER_LINEAR)
    frames = []
    for t in range(num_frames):
        dy, dx = rng.integers(-wobble, wobble + 1, 2) + 16
        frame = ground[dy : dy + SIDE, dx : dx + SIDE].copy()
        left = (seed + speed * t) % (SIDE - 16)
        frame[24:40, left : left + 16] = (220, 40, 10)
        frames.append(frame)
    return np.stack(frames)


def pictures(frames: Iterable[np.ndarray]) -> Iterator[Picture]:
    return (Picture(frame, Converter()) for frame in frames)


CLIPS = {
    "fine": scene(1, 16),
    "static": scene(2, 12, speed=0),
    "black": np.full((12, SIDE, SIDE, 3), 2, np.uint8),
    "shaky": scene(4, 16, wobble=8),
    "edited": np.concatenate([scene(5, 9), scene(6, 11)]),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    for name, frames in CLIPS.items():
        write_video(folder / f"{name}.mp4", frames)
    again = np.stack([cv2.resize(frame, (96, 96)) for frame in CLIPS["fine"]])
    write_video(folder / "fine_again.webm", again)  # another size and codec
    return folder


def ingested(videos: Path, target: Path, **quality: object) -> tuple[Dataset, IngestReport]:
    config = IngestConfig(
        source=VideoFolderSource(url=str(videos)), image_size=SIDE, workers=1, episodes_per_shard=3,
        quality=QualityConfig(**quality),
    )  # fmt: skip
    report = ingest(config, str(target))
    return Dataset.open(str(target)), report


@pytest.fixture(scope="module")
def tagged(videos, tmp_path_factory) -> tuple[Dataset, IngestReport]:
    return ingested(videos, tmp_path_factory.mktemp("tagged"))


def test_each_kind_is_tagged_and_nothing_is_lost(tagged):
    dataset, report = tagged
    tags = dict(zip(dataset.index["source"].to_pylist(), dataset.index["tags"].to_pylist(), strict=True))
    assert tags == {
        "black.mp4": ["black"],
        "edited.mp4": ["cuts"],
        "fine.mp4": [],
        "fine_again.webm": ["duplicates"],
        "shaky.mp4": ["shaky"],
        "static.mp4": ["static"],
    }
    assert {kind: found.tagged for kind, found in report.quality.items()} == dict.fromkeys(report.quality, 1)
    assert report.num_episodes == 6 and not report.skipped


def test_every_kind_has_a_picture_and_a_reason(tagged):
    dataset, report = tagged
    assert set(report.quality) == {"static", "black", "shaky", "cuts", "duplicates"}
    for found in report.quality.values():
        (example,) = found.examples
        assert Image.open(io.BytesIO(files.read_bytes(files.join(dataset.url, example.picture)))).size[1] == SIDE
    assert report.quality["duplicates"].examples[0].reason == "its pictures are those of fine.mp4"
    assert report.quality["cuts"].examples[0].reason == "1 scene cut"


def test_near_duplicates_are_never_on_both_sides_of_a_split(tagged):
    dataset, _ = tagged
    names = dataset.index["source"].to_pylist()
    for share in np.linspace(0.05, 0.95, 19):
        sides = [{names[row] for row in rows} & {"fine.mp4", "fine_again.webm"} for rows in split_rows(dataset, share)]
        assert sorted(map(len, sides)) == [0, 2]


def test_motion_is_told_of_every_episode(tagged):
    dataset, _ = tagged
    motion = dict(zip(dataset.index["source"].to_pylist(), dataset.index["motion"].to_pylist(), strict=True))
    assert motion["static.mp4"] < 0.5 < motion["fine.mp4"] < motion["shaky.mp4"]


def test_what_is_dropped_is_named_and_cuts_make_episodes(videos, tmp_path):
    drop = dict.fromkeys(("static", "black", "shaky", "duplicates"), "drop")
    dataset, report = ingested(videos, tmp_path / "out", cuts="split", **drop)
    assert dataset.index["source"].to_pylist() == ["edited.mp4 frames 0-8", "edited.mp4 frames 9-19", "fine.mp4"]
    assert dataset.index["num_frames"].to_pylist() == [9, 11, 16]
    assert {kind: found.dropped for kind, found in report.quality.items() if found.dropped} == dict.fromkeys(drop, 1)
    assert report.quality["cuts"].split == 1
    assert (report.num_episodes, report.num_frames) == (3, 36)
    first, second = dataset.index["episode"].to_pylist()[:2]
    assert first.partition("@")[0] == second.partition("@")[0]
    again = ingest(
        IngestConfig(
            source=VideoFolderSource(url=str(videos)), image_size=SIDE, episodes_per_shard=3,
            quality=QualityConfig(cuts="split", **drop),
        ),
        dataset.url,
    )  # fmt: skip
    assert again == report


def test_a_source_of_nothing_useful_says_what_was_wrong(tmp_path):
    write_video(tmp_path / "videos" / "night.mp4", CLIPS["black"])
    with pytest.raises(SourceError, match=r"night\.mp4: 100% of its frames are black"):
        ingested(tmp_path / "videos", tmp_path / "out", black="drop")


@pytest.mark.parametrize("lengths", [(10, 12), (1, 10), (10, 1), (4, 5, 6), (2, 2), (30,), (1,)])
def test_scenes_are_told_apart_wherever_the_cut_is(lengths):
    frames = [frame for seed, length in enumerate(lengths) for frame in scene(seed, length)]
    placed = list(placed_in_scenes(look(pictures(frames)), 10.0, QualityConfig()))
    assert [item.look.picture.rgb is frame for item, frame in zip(placed, frames, strict=True)] == [True] * len(frames)
    scenes = [item.scene for item in placed]
    assert tuple(scenes.count(number) for number in range(len(lengths))) == lengths


def test_a_fast_pan_is_no_cut():
    panorama = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (SIDE, 700, 3), dtype=np.uint8), (0, 0), 4)
    frames = [np.ascontiguousarray(panorama[:, 12 * t : 12 * t + SIDE]) for t in range(50)]
    assert {item.scene for item in placed_in_scenes(look(pictures(frames)), 10.0, QualityConfig())} == {0}


def test_clips_of_one_resting_camera_are_no_duplicates_however_alike_their_hashes():
    thumbs = np.zeros((2, 4, 16, 16), np.uint8)
    thumbs[1, 2, 5, 5] = 60  # something else was there
    assert find_twins([b"\1" * 32] * 2, [3.0, 3.0], lambda clip: thumbs[clip], QualityConfig()) == []
    assert find_twins([b"\1" * 32] * 2, [3.0, 3.0], lambda _: thumbs[0], QualityConfig()) == [(1, 0)]
    assert find_twins([b"\1" * 32] * 2, [3.0, 4.0], lambda _: thumbs[0], QualityConfig()) == []


def test_many_clips_with_one_hash_are_compared_in_little_time():
    compared = []

    def thumbs(clip: int) -> np.ndarray:
        compared.append(clip)
        return np.zeros((4, 16, 16), np.uint8)

    twins = find_twins([b"\7" * 32] * 2000, [1.0] * 2000, thumbs, QualityConfig())
    assert [twin.earlier for twin in twins] == [0] * 1999
    assert len(compared) < 20 * 2000


def test_settings_of_before_keep_their_names():
    settings = result_settings(IngestConfig(source=VideoFolderSource(url="v")))
    assert "quality" not in settings
    looked_for = IngestConfig(source=VideoFolderSource(url="v"), quality=QualityConfig(static="drop"))
    assert result_settings(looked_for)["quality"]["static"] == "drop"


def test_a_clip_in_two_datasets_of_a_mixture_is_on_one_side_of_every_split(tmp_path):
    """Each dataset by itself could hold its copy out while the other trains on the same pictures."""
    for name, number in (("mine", 0), ("theirs", 100)):
        write_video(tmp_path / name / f"{name}-shared.mp4", CLIPS["fine"])
        for seed in range(number, number + 4):
            write_video(tmp_path / name / f"{name}-{seed}.mp4", scene(20 + seed, 12))
    urls = {name: ingested(tmp_path / name, tmp_path / f"{name}-dataset")[0].url for name in ("mine", "theirs")}
    config = MixtureConfig(datasets={name: MixturePart(dataset=ExistingDataset(url=url)) for name, url in urls.items()})
    folder = str(tmp_path / "mixture")
    mix(config, urls, folder, twins=find_mixture_twins(urls))
    mixture = Dataset.open(folder)
    sources = mixture.index["source"].to_pylist()
    copies = {row for row, source in enumerate(sources) if "shared" in source}
    assert len(copies) == 2 and len(mixture.info.twins) == 1
    for share in np.linspace(0.001, 0.999, 23):
        training, held_out = split_rows(mixture, share)
        assert len(copies & set(training.tolist())) in (0, 2)
        assert len(training) and len(held_out)
    assert is_mixed(config, urls, folder)


@pytest.fixture
def copied(tagged, tmp_path) -> Path:
    """A dataset, once more."""
    return Path(shutil.copytree(tagged[0].url, tmp_path / "copy"))


def test_twins_of_a_mixture_are_named_by_member_and_only_where_two_members_hold_them(tagged, copied):
    first = tagged[0]
    assert any(first.index["twin"].to_pylist())
    assert find_mixture_twins({"one": first.url}) == {}
    twins = find_mixture_twins({"one": first.url, "two": str(copied)})
    assert {name.partition("/")[0] for name in twins.values()} == {"one"}
    assert {f"two/{recording}" for recording in deciding(first)} <= set(twins)


def test_episodes_that_nobody_looked_at_are_counted_in_the_log_once_per_dataset(tagged, copied, caplog):
    first, urls = tagged[0], {"one": tagged[0].url, "two": str(copied)}
    shards = first.index["shard"].to_pylist()
    path = copied / "_units" / "00001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hashes": []}))
    assert find_mixture_twins(urls)
    path.unlink()
    assert find_mixture_twins(urls) == {}, "half a dataset was compared"
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert f"dataset=two episodes={shards.count(1)} why='made without looking" in said[0]
    assert f"dataset=two episodes={len(first)} why=" in said[1]
