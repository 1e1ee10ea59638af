"""Ingest from a bucket to a bucket, against a real S3 server."""

import fsspec
import pytest

from lapa import files
from lapa.config.data import IngestConfig, LeRobotSource, RldsSource, VideoFolderSource
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_frames
from lapa.data.ingest import ingest
from lapa.data.readers.listing import walk_files
from tests.data.sources import write_clips, write_lerobot, write_rlds
from tests.s3_server import S3Server, s3

__all__ = ["s3"]  # the fixture


def test_a_bucket_of_videos_becomes_the_same_dataset_as_a_folder(s3: S3Server, tmp_path):
    local = write_clips(tmp_path / "videos", 4)
    bucket = s3.new_bucket("ingest-videos")
    files.upload(local, f"{bucket}/raw")
    source = VideoFolderSource(url=f"{bucket}/raw")
    config = IngestConfig(source=source, image_size=32, episodes_per_shard=2, workers=2)
    report = ingest(config, f"{bucket}/dataset")
    expected = ingest(config.model_copy(update={"source": VideoFolderSource(url=str(local))}), str(tmp_path / "out"))
    assert report.revision == expected.revision

    dataset = Dataset.open(f"{bucket}/dataset")
    assert len(episode_frames(dataset, 3)) == 8

    before = {path: info["LastModified"] for path, info in _objects(f"{bucket}/dataset").items()}
    assert ingest(config, f"{bucket}/dataset") == report
    assert {path: info["LastModified"] for path, info in _objects(f"{bucket}/dataset").items()} == before


@pytest.mark.parametrize("kind", ["lerobot", "rlds"])
def test_robot_logs_are_read_from_a_bucket(s3: S3Server, tmp_path, kind):
    bucket = s3.new_bucket(f"ingest-{kind}")
    if kind == "lerobot":
        files.upload(write_lerobot(tmp_path / "raw", [5, 6]), f"{bucket}/raw")
        source = LeRobotSource(url=f"{bucket}/raw")
    else:
        files.upload(write_rlds(tmp_path / "raw", 2), f"{bucket}/raw")
        source = RldsSource(url=f"{bucket}/raw", fps=5)
    report = ingest(IngestConfig(source=source, image_size=32, workers=1), f"{bucket}/dataset")
    assert report.num_episodes == 2 and not report.failed
    assert Dataset.open(f"{bucket}/dataset").info.has_actions


def test_small_folders_of_a_bucket_are_listed_together(s3: S3Server, monkeypatch):
    bucket = s3.new_bucket("listing")
    names = [f"{folder:03d}/{number}.mp4" for folder in range(40) for number in range(folder % 3 + 1)]
    names += [
        "a/b/c.mp4",
        "a/b-c.mp4",
        "a-b/c.mp4",
        "a.mp4",
        "b/.part.mp4",
        ".hidden/c.mp4",
        "d/.hidden/e.mp4",
        "ä/ö.mp4",
    ]
    fs = fsspec.filesystem("s3")
    fs.pipe({f"listing/raw/{name}": b"x" * (number + 1) for number, name in enumerate(names)})
    requests = []
    call = fs.call_s3
    monkeypatch.setattr(fs, "call_s3", lambda *args, **asked: requests.append(asked) or call(*args, **asked))

    seen = [name for name in sorted(names) if not any(part.startswith(".") for part in name.split("/"))]
    assert [(file.name, file.size) for file in walk_files(f"{bucket}/raw")] == [
        (name, names.index(name) + 1) for name in seen
    ]
    plain = [name for name in seen if name[0] == "0"]
    fs.pipe({f"listing/plain/{name}": b"x" for name in plain})
    requests.clear()
    assert [file.name for file in walk_files(f"{bucket}/plain")] == plain
    assert len(requests) < 5, "of 40 folders"


def _objects(url: str) -> dict:
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    return fs.find(url, detail=True)
