"""Stage `ingest` on several machines: helpers make shards, the first one finishes."""

from pathlib import Path

import pytest

from lapa.config.load import resolve
from lapa.config.profile import ProfileConfig
from lapa.config.run import RunConfig
from lapa.data.dataset import INFO_FILE, Dataset
from lapa.stages import ingest
from lapa.stages.plan import dataset_url, finished
from tests.data.sources import write_clips


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    source = {"kind": "videos", "url": str(write_clips(tmp_path / "videos", 4))}
    videos = {"kind": "ingest", "source": source, "image_size": 32, "workers": 1, "episodes_per_shard": 2}
    stages = {"pretrain": None, "finetune": None, "evaluate": None}
    return resolve(
        {"name": "nodes", "work_url": str(tmp_path / "work"), "videos": videos, "tracking": {"enabled": False}} | stages
    )


def test_a_helper_makes_shards_and_the_first_machine_the_dataset(run: RunConfig, monkeypatch: pytest.MonkeyPatch):
    url = dataset_url(run, run.videos)
    monkeypatch.setenv("LAPA_INGEST_NODES", "2")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    ingest.main(run)
    assert len(list(Path(url, "shards").iterdir())) == 2 and not Path(url, INFO_FILE).exists()
    assert finished(run, "ingest") is None
    made = {path: path.stat().st_mtime_ns for path in Path(url, "shards").iterdir()}

    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    ingest.main(run.model_copy(update={"profile": ProfileConfig(steps=3)}))
    result = finished(run, "ingest")
    assert len(Dataset.open(url)) == 4 and result is not None
    assert any(message.startswith("Profile: limited by ") for message in result.messages)
    assert {path: path.stat().st_mtime_ns for path in Path(url, "shards").iterdir()} == made

    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    ingest.main(run)  # a helper that comes late leaves everything as it is
    assert len(Dataset.open(url)) == 4
