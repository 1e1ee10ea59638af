"""Ingest from a bucket to a bucket, against a real S3 server."""

import fsspec
import pytest

from lapa import files
from lapa.config.data import IngestConfig, LeRobotSource, RldsSource, VideoFolderSource
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_frames
from lapa.data.ingest import ingest
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


def _objects(url: str) -> dict:
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    return fs.find(url, detail=True)
