"""Human video: Something-Something's labels, and long videos cut by a table of narrations."""

import json
from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import IngestConfig, SourceConfig
from lapa.config.quality import QualityConfig
from lapa.config.sources import NarratedVideosSource, SomethingSomethingSource
from lapa.data.convert import convert
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.readers import narrated
from lapa.data.readers.build import build_reader
from lapa.data.splits import split_rows
from lapa.errors import SourceError
from lapa.types.episodes import Episode
from tests.data.sources import moving_square, truncate, write_video


def read_all(source: SourceConfig) -> list[Episode | SourceError]:
    reader = build_reader(source)
    return [episode for item in reader.items() for episode in reader.read(item)]


# Something-Something v2


def write_something(folder: Path, labels: list[dict]) -> SomethingSomethingSource:
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "train.json").write_text(json.dumps(labels))
    return SomethingSomethingSource(url=str(folder / "videos"), labels=str(folder / "train.json"))


def test_templates_are_filled_with_their_objects(tmp_path):
    labels = [
        {"id": "7", "template": "Holding [something] next to [something in it]", "placeholders": ["potato", "a cup"]},
        {"id": "12", "template": "Pushing [something]", "placeholders": [], "label": "pushing a box"},
        {"id": 3, "label": "lifting a lid"},
        {"id": "4"},
    ]
    source = write_something(tmp_path, labels)
    for number in (3, 4, 7, 12, 99):
        write_video(tmp_path / f"videos/{number}.webm", moving_square(5), fps=12)
    episodes = {episode.source: episode for episode in read_all(source)}
    assert {name: episode.instruction for name, episode in episodes.items()} == {
        "7.webm": "Holding potato next to a cup",
        "12.webm": "pushing a box",
        "3.webm": "lifting a lid",
        "4.webm": "",
    }
    assert len(list(episodes["7.webm"].frames())) == 5 and episodes["7.webm"].embodiment == "human"


def test_a_missing_and_a_damaged_webm_are_named_and_the_others_ingested(tmp_path):
    source = write_something(tmp_path, [{"id": str(n), "label": f"clip {n}"} for n in range(4)])
    for number in range(3):
        write_video(tmp_path / f"videos/{number}.webm", moving_square(5), fps=12)
    (tmp_path / "videos/1.webm").write_bytes(b"")
    config = IngestConfig(source=source, image_size=32, workers=1, max_failed_share=0.5)
    report = ingest(config, str(tmp_path / "out"))
    assert report.num_episodes == 2
    assert {problem.source: "cannot be opened" in problem.reason for problem in report.failed} == {
        "1": True,
        "3": False,
    }


@pytest.mark.parametrize("text", ["{", '{"7": 1}', '[{"template": "x"}]', "[3]"])
def test_a_label_file_of_another_form_is_refused(tmp_path, text):
    source = write_something(tmp_path, [])
    write_video(tmp_path / "videos/7.webm", moving_square(3))
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(SourceError, match=r"train\.json"):
        build_reader(source)


# Narrated videos


def write_narrated(folder: Path, rows: str, **settings) -> NarratedVideosSource:
    (folder / "narrations.csv").write_text(rows)
    return NarratedVideosSource(url=str(folder), narrations=str(folder / "narrations.csv"), **settings)


EPIC = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration\n"


def counting(num_frames: int) -> np.ndarray:
    """Frames that are each of one grey, four levels brighter than the one before."""
    return np.stack([np.full((48, 64, 3), 8 + 4 * t, np.uint8) for t in range(num_frames)])


def frame_numbers(episode: Episode) -> list[int]:
    return [round((float(frame.mean()) - 8) / 4) for frame in episode.frames()]


def test_clips_are_cut_where_the_table_says_and_carry_its_words(tmp_path):
    write_video(tmp_path / "P01/videos/P01_01.mp4", counting(60), fps=10)
    rows = EPIC + "a,P01,P01_01,00:00:00.50,00:00:01.50,open door\nb,P01,P01_01,00:00:04.00,0:05.2,close door\n"
    source = write_narrated(tmp_path, rows)
    opened, closed = read_all(source)
    assert (opened.instruction, closed.instruction) == ("open door", "close door")
    assert frame_numbers(opened) == list(range(5, 15))
    assert frame_numbers(closed) == list(range(40, 52))
    assert opened.fps == 10 and opened.id != closed.id


def test_a_table_of_moments_gives_clips_around_them_without_ego4d_marks(tmp_path):
    write_video(tmp_path / "uid.mp4", counting(50), fps=10)
    rows = [
        {"video_uid": "uid", "timestamp_sec": 2.5, "narration_text": "#C C picks up the cup #unsure"},
        {"video_uid": "uid", "timestamp_sec": 0.1, "narration_text": "#O The man X waves"},
    ]
    (tmp_path / "narrations.json").write_text(json.dumps(rows))
    source = NarratedVideosSource(
        url=str(tmp_path), narrations=str(tmp_path / "narrations.json"), video_column="video_uid",
        start_column="timestamp_sec", stop_column=None, text_column="narration_text", clip_seconds=1,
    )  # fmt: skip
    waves, picks = read_all(source)
    assert (picks.instruction, waves.instruction) == ("picks up the cup", "The man X waves")
    assert frame_numbers(picks) == list(range(20, 30))
    assert frame_numbers(waves) == list(range(6))


def test_what_cannot_be_cut_is_named_by_its_row_and_the_rest_is_ingested(tmp_path):
    write_video(tmp_path / "raw/v.mp4", counting(40), fps=10)
    truncate(write_video(tmp_path / "raw/broken.mp4", counting(40), fps=10))
    for folder in ("a", "b"):
        write_video(tmp_path / f"raw/{folder}/twice.mp4", counting(3), fps=10)
    rows = EPIC + (
        "0,P,v,0:00,0:01,good\n1,P,v,0:02,0:01,backwards\n2,P,v,soon,0:01,when\n3,P,v,0,999,endless\n"
        "4,P,v,50,51,beyond\n5,P,absent,0,1,none\n6,P,twice,0,1,which\n7,P,broken,0,1,no\n8,P,v,0:00,0:01,good\n"
    )
    source = write_narrated(tmp_path / "raw", rows)
    report = ingest(IngestConfig(source=source, image_size=32, workers=1, max_failed_share=0.9), str(tmp_path / "out"))
    assert report.num_episodes == 1
    reasons = " | ".join(problem.reason for problem in report.failed)
    said = ["row 1 of", "row 2 of", "to float: 'soon'", "row 3 of", "no frame from second 50.00", "narrates absent"]
    for words in [*said, "2 videos", "broken.mp4 cannot be opened"]:
        assert words in reasons
    assert len(report.failed) == 7


def test_a_table_without_its_columns_says_which_it_has(tmp_path):
    write_video(tmp_path / "v.mp4", counting(5), fps=10)
    with pytest.raises(SourceError, match=r"no columns \['narration', .*it has \['text', 'video'\]"):
        build_reader(write_narrated(tmp_path, "video,text\nv,x\n"))


def test_clips_of_one_video_are_never_on_both_sides_of_a_split(tmp_path, monkeypatch):
    monkeypatch.setattr(narrated, "RUN_CLIPS", 2)
    rows = EPIC
    for video in range(4):
        write_video(tmp_path / f"raw/v{video}.mp4", counting(40), fps=10)
        rows += "".join(f"x,P,v{video},{t},{t + 1},step {t} with words that go on and on and on\n" for t in range(3))
    source, alike = write_narrated(tmp_path / "raw", rows), QualityConfig(duplicates="off")  # all videos are the same
    ingest(IngestConfig(source=source, image_size=32, workers=1, quality=alike), str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.info.num_episodes == 12
    names = dataset.index["episode"].to_pylist()
    training, held_out = ({names[row].split("@")[0] for row in part} for part in split_rows(dataset, 0.3))
    assert training and held_out and not training & held_out
    # Ids of clips stay short enough for a tar's plain header.
    assert convert(dataset, "webdataset", str(tmp_path / "tars")).episodes == 12
