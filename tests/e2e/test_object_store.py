"""A run whose videos, work folder and results are all in a bucket: machines come and go, with empty disks."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lapa import files
from lapa.data.dataset import Dataset
from lapa.data.labels import Labels
from lapa.models.latent_action.model import load_latent_action_model
from lapa.models.storage import model_digest
from lapa.stages.results import StageResult, read_result
from lapa.tracking.stage_log import read_history
from tests.data.sources import write_clips
from tests.e2e.programs import STEPS, Ended, has_checkpoint, last_step, stage, stopped, tiny_run, write_run
from tests.s3_server import S3Server, s3

__all__ = ["s3"]  # the fixture

CLIPS, CLIPS_PER_SHARD = 12, 4


class Machine(NamedTuple):
    """What a stage finds on the machine it runs on, and where the run lives."""

    disk: Path
    work_url: str
    tracking: tuple[str, ...]

    def runs(self, name: str) -> tuple[StageResult, str]:
        """A stage on a fresh disk: its result, and what it said."""
        self.wipe()
        ended = stage(self.disk, name, f"work_url={self.work_url}", *self.tracking)
        assert ended.code == 0, f"{name}: exit code {ended.code}\n{ended.said}"
        assert {path.name for path in self.disk.iterdir()} == {"run.yaml", "home", "tmp"}
        assert not list((self.disk / "tmp").glob("lapa-*")), "copies are removed"
        assert not (self.disk / "home" / ".lapa").exists(), "the store was named"
        result = self.result_of(name)
        assert result is not None, f"{name} left no result"
        return result, ended.said

    def is_killed(self, name: str, when: Callable[[list[dict[str, Any]]], bool]) -> Ended:
        self.wipe()
        return stopped(self.disk, name, signal.SIGKILL, when, f"work_url={self.work_url}", *self.tracking)

    def result_of(self, name: str) -> StageResult | None:
        (folder,) = (part for part in files.list_names(self.work_url) if part.startswith(f"{name}-"))
        return read_result(files.join(self.work_url, folder))

    def wipe(self) -> None:
        """Another machine: everything is gone but the run's settings."""
        settings = (self.disk / "run.yaml").read_text()
        shutil.rmtree(self.disk)
        for folder in ("tmp", "home"):
            (self.disk / folder).mkdir(parents=True)
        (self.disk / "run.yaml").write_text(settings)


@pytest.fixture
def machine(s3: S3Server, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """An empty disk, and clips in a bucket."""
    bucket = s3.new_bucket("whole-run")
    files.upload(write_clips(tmp_path / "clips", CLIPS, num_frames=14), f"{bucket}/clips")
    shutil.rmtree(tmp_path / "clips")
    disk = tmp_path / "disk"
    settings = tiny_run(disk, "unused", "unused") | {"robot": None, "pretrain": None, "finetune": None}
    settings["videos"] = {
        "kind": "ingest", "source": {"kind": "videos", "url": f"{bucket}/clips"}, "image_size": 32,
        "episodes_per_shard": CLIPS_PER_SHARD, "workers": 1,
    }  # fmt: skip
    write_run(disk, settings)
    monkeypatch.setenv("TMPDIR", str(disk / "tmp"))
    monkeypatch.setenv("HOME", str(disk / "home"))
    shutil.copyfile(store, tmp_path / "mlflow.db")
    tracking = (f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", f"tracking.artifact_url={bucket}/mlflow-artifacts")
    return Machine(disk, f"{bucket}/run", tracking)


def test_a_run_in_a_bucket_needs_nothing_of_the_disks_it_ran_on(machine: Machine):
    ingested, _ = machine.runs("ingest")
    videos = ingested.outputs["videos"]
    dataset = Dataset.open(videos.url)
    assert videos.url.startswith(machine.work_url) and videos.digest == dataset.revision
    assert len(dataset) == CLIPS and dataset.info.num_shards == CLIPS // CLIPS_PER_SHARD

    killed = machine.is_killed("laq", lambda events: last_step(events) >= 8 and has_checkpoint(machine.work_url, "laq"))
    assert killed.code == -signal.SIGKILL
    assert machine.result_of("laq") is None

    trained, said = machine.runs("laq")
    assert "event=resumed step=" in said
    model = trained.outputs["model"]
    assert trained.inputs["videos"] == videos and model_digest(model.url) == model.digest
    assert load_latent_action_model(model.url).config.codebook_size > 1
    losses = read_history(trained.folder)["train/total"]
    assert losses[-1][0] == STEPS and len(losses) == len({step for step, _ in losses})

    labelled, _ = machine.runs("label")
    labels = Labels.open(labelled.outputs["labels"].url)
    assert labels.digest == labelled.outputs["labels"].digest
    labels.check(dataset, window_seconds=labels.stamp.window_seconds, labeller_digest=model.digest)
    assert all(len(labels.codes_of(row)) for row in range(CLIPS))

    again, _ = machine.runs("ingest")
    assert again == ingested, "nothing is made again"
