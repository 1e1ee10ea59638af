"""What Prometheus reads while a training runs."""

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from lapa.config.load import dump_run, load_run
from lapa.config.training import TorchEngineConfig
from lapa.errors import RESTART_EXIT_CODE, ConfigError, LossNotFinite
from lapa.training.checkpoints import Checkpoints
from lapa.training.distributed import Launch
from lapa.training.engine import build_engine
from lapa.training.fit import fit
from lapa.training.hooks import Hook, StepReport
from lapa.training.metrics_server import PORT_VARIABLE, MetricsServer, served_metrics
from tests.builders import make_dataset
from tests.distributed import rank_environment
from tests.training.toy import Losses, ToyModel, ToyTask, fit_config, held_out, stream

ALONE = Launch(rank=0, local_rank=0, world_size=1)
PATIENCE_SECONDS = 900


def scrape(port: int | None) -> dict[str, float]:
    """Value by series, labels in braces as Prometheus writes them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS) as answer:
        text = answer.read().decode()
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def train(folder: Path, *hooks: Hook, task: ToyTask | None = None) -> None:
    config = fit_config(steps=6)
    engine = build_engine(ToyModel, TorchEngineConfig(), config, seed=5)
    fit(task or ToyTask(), engine, stream(), held_out, config, Checkpoints(str(folder), 2, {}), hooks, seed=5)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer(ALONE, 0, last_words_seconds=0)
    yield server
    server.close()


def test_a_training_tells_how_far_it_is_while_it_runs(tmp_path: Path, server: MetricsServer) -> None:
    seen: dict[int, dict[str, float]] = {}

    def look(report: StepReport) -> None:
        seen[report.step] = scrape(server.port)

    before = scrape(server.port)
    losses = Losses(react=look)
    train(tmp_path, server, losses)
    assert list(seen) == [1, 2, 3, 4, 5, 6]
    for step, numbers in seen.items():
        assert numbers["lapa_train_step"] == step and numbers["lapa_train_steps"] == 6
        assert numbers["lapa_train_loss"] == pytest.approx(losses.values[step])
        assert numbers["lapa_train_step_seconds_count"] == step - 1, "the first update has none before it"
        assert numbers["lapa_train_gradient_norm"] > 0 and numbers["lapa_train_samples_per_second"] > 0
    waits = [numbers["lapa_data_wait_seconds_total{rank=0}"] for numbers in seen.values()]
    assert waits == sorted(waits) and waits[0] > 0
    steps = [before["lapa_train_last_step_timestamp_seconds"]]
    steps += [numbers["lapa_train_last_step_timestamp_seconds"] for numbers in seen.values()]
    assert steps == sorted(steps) and steps[0] < steps[-1] <= time.time()
    saved = [before["lapa_checkpoint_last_success_timestamp_seconds"]]
    saved += [numbers["lapa_checkpoint_last_success_timestamp_seconds"] for numbers in seen.values()]
    saved += [scrape(server.port)["lapa_checkpoint_last_success_timestamp_seconds"]]
    assert saved[0] == saved[1] == saved[2], "before the first checkpoint the start counts"
    assert saved == sorted(saved) and saved[0] < saved[-1] <= time.time()
    assert not any(name.startswith("lapa_train_failed") for name in scrape(server.port))


def test_a_training_that_cannot_go_on_says_why_before_it_ends(tmp_path: Path, server: MetricsServer) -> None:
    class Broken(ToyTask):
        def losses(self, engine: Any, batch: Any) -> dict[str, torch.Tensor]:
            losses = super().losses(engine, batch)
            return losses if engine.step < 3 else {"total": losses["total"] * float("nan")}

    with pytest.raises(LossNotFinite):
        train(tmp_path, server, task=Broken())
    assert scrape(server.port)["lapa_train_failed{reason=LossNotFinite}"] == 1


def test_a_port_that_is_taken_costs_no_training(tmp_path: Path, server: MetricsServer, caplog: Any) -> None:
    assert server.port is not None
    second = MetricsServer(ALONE, server.port)
    assert second.port is None and PORT_VARIABLE in caplog.text
    losses = Losses()
    train(tmp_path, second, losses)
    assert list(losses.values)[-1] == 6


def test_one_rank_of_each_node_listens_and_rank_0_has_the_numbers() -> None:
    other_node = MetricsServer(Launch(rank=8, local_rank=0, world_size=16), 0)
    same_node = MetricsServer(Launch(rank=1, local_rank=1, world_size=16), 0)
    try:
        assert scrape(other_node.port) == {} and same_node.port is None
    finally:
        other_node.close()


def test_without_a_port_nothing_listens_and_a_port_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PORT_VARIABLE, raising=False)
    with served_metrics() as hooks:
        assert hooks == []
    monkeypatch.setenv(PORT_VARIABLE, "http")
    with pytest.raises(ConfigError, match="LAPA_METRICS_PORT=http"), served_metrics():
        pass


def test_a_stage_that_trains_can_be_scraped(tmp_path: Path) -> None:
    url = make_dataset(tmp_path / "videos", episodes=6, frames=12, image_size=48)
    settings = [
        f"work_url={tmp_path}", "videos.kind=dataset", f"videos.url={url}", "tracking.enabled=false",
        "laq.fit.steps=100000", "laq.fit.batch_size=8", "laq.fit.log_every=1", "laq.fit.validate_every=100000",
        "laq.stream.workers=0",
    ]  # fmt: skip
    run = tmp_path / "run.yaml"
    run.write_text(dump_run(load_run("tabletop-smoke", settings)))
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "log.txt").open("w+")
    stage = subprocess.Popen(
        [sys.executable, "-m", "lapa", "laq", str(run)],
        env=rank_environment({PORT_VARIABLE: str(port)}),
        stdout=log,
        stderr=log,
    )
    try:
        numbers = scraped_when_it_steps(stage, port)
        assert numbers, Path(log.name).read_text()
        assert numbers["lapa_train_steps"] == 100000 and numbers["lapa_train_loss"] > 0
        assert numbers["lapa_data_wait_seconds_total{rank=0}"] > 0
        stage.send_signal(signal.SIGTERM)
        assert stage.wait(PATIENCE_SECONDS) == RESTART_EXIT_CODE, Path(log.name).read_text()
    finally:
        stage.kill()
        stage.wait()
        log.close()


def scraped_when_it_steps(stage: subprocess.Popen[bytes], port: int) -> dict[str, float]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while stage.poll() is None and time.monotonic() < deadline:
        try:
            numbers = scrape(port)
        except OSError:
            numbers = {}
        if numbers.get("lapa_train_step", 0) > 2 and numbers["lapa_train_steps"]:
            return numbers
        time.sleep(0.1)
    return {}
