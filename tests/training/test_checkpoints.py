"""Checkpoints are written while training goes on: complete or invisible, one at a time, and never in vain."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lapa.files
from lapa.config.training import TorchEngineConfig
from lapa.errors import CheckpointError
from lapa.models.storage import INDEX_FILE, WEIGHTS_FILE, load_state, model_digest, save_model
from lapa.training.checkpoints import MAX_FAILED_SAVES, Checkpoints
from lapa.training.engine import build_engine
from lapa.training.fit import fit
from lapa.training.hooks import Hook, StepReport
from lapa.training.signals import Interrupted
from lapa.training.state_files import SavedModel, StateReader, join_indices, write_parts
from tests.training.toy import ToyConfig, ToyModel, ToyTask, fit_config, global_batch, held_out, stream

GENEROUS_SECONDS = 300


class Events(Hook):
    """What happened, in its order; `react` may do something about a step."""

    def __init__(self, react: Callable[[int], None] = lambda step: None) -> None:
        self.seen: list[tuple[str, int]] = []
        self.react = react

    def after_step(self, report: StepReport) -> None:
        self.seen.append(("step", report.step))
        self.react(report.step)

    def after_checkpoint(self, step: int, url: str) -> None:
        assert lapa.files.exists(f"{url}/manifest.json")
        self.seen.append(("checkpoint", step))


def train(url: str, hook: Hook, **changes: Any) -> Checkpoints:
    config = fit_config(**changes)
    engine = build_engine(lambda: ToyModel(noise=0.1), TorchEngineConfig(), config, seed=5)
    checkpoints = Checkpoints(url, 2, {}, sleep=lambda seconds: None)
    fit(ToyTask(), engine, stream(), held_out, config, checkpoints, [hook], seed=5)
    return checkpoints


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The store takes nothing until this is set."""
    released, upload = threading.Event(), lapa.files.upload

    def slow(*args: Any, **options: Any) -> None:
        assert released.wait(GENEROUS_SECONDS)
        upload(*args, **options)

    monkeypatch.setattr(lapa.files, "upload", slow)
    return released


class OnMessage(logging.Handler):
    def __init__(self, words: str, react: Callable[[], None]) -> None:
        super().__init__()
        self.words, self.react = words, react

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.react()


@pytest.fixture
def when_told(caplog: pytest.LogCaptureFixture):
    """Do something at the moment a message is logged."""
    caplog.set_level(logging.INFO)
    handlers: list[logging.Handler] = []

    def listen(words: str, react: Callable[[], None]) -> None:
        handlers.append(OnMessage(words, react))
        logging.getLogger().addHandler(handlers[-1])

    yield listen
    for handler in handlers:
        logging.getLogger().removeHandler(handler)


def test_training_goes_on_while_a_checkpoint_is_on_its_way_and_nobody_sees_half_of_it(
    tmp_path: Path, held_back: threading.Event
) -> None:
    url = f"memory://{tmp_path.name}/run"

    def react(step: int) -> None:
        if step == 5:
            assert Checkpoints(url, 2, {}).latest() is None
            held_back.set()

    events = Events(react)
    train(url, events, steps=6, checkpoint_every=3)
    assert events.seen[:5] == [("step", step) for step in range(1, 6)]
    assert [step for kind, step in events.seen if kind == "checkpoint"] == [3, 6]


def test_the_next_save_waits_for_the_one_on_its_way_and_says_so(
    tmp_path: Path, held_back: threading.Event, when_told: Any
) -> None:
    when_told("event=checkpoint-waits step=2 for_step=1", held_back.set)
    events = Events()
    train(f"memory://{tmp_path.name}/run", events, steps=2, checkpoint_every=1)
    assert events.seen == [("step", 1), ("step", 2), ("checkpoint", 1), ("checkpoint", 2)]


def test_sigterm_first_completes_what_is_on_its_way_and_then_saves_its_own_step(
    tmp_path: Path, held_back: threading.Event, when_told: Any
) -> None:
    """Nearly done is surer than new: killed in between, the run goes on from the earlier step."""
    url = f"memory://{tmp_path.name}/run"
    when_told("event=checkpoint-waits step=4 for_step=3", held_back.set)
    events = Events(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None)
    with pytest.raises(Interrupted) as stopped:
        train(url, events, steps=9, checkpoint_every=3)
    assert (stopped.value.code, stopped.value.step) == (75, 4)
    assert events.seen[-2:] == [("checkpoint", 3), ("checkpoint", 4)]
    again = Events()
    train(url, again, steps=5)
    assert again.seen[0] == ("step", 5)


def test_what_training_changes_after_the_copy_is_not_in_the_checkpoint(
    tmp_path: Path, held_back: threading.Event
) -> None:
    url = f"memory://{tmp_path.name}/run"
    train_at_once = str(tmp_path / "at-once")
    train(train_at_once, Events(), steps=3, checkpoint_every=3)
    train(url, Events(lambda step: held_back.set() if step == 5 else None), steps=6, checkpoint_every=3)
    assert model_digest(f"{url}/step-00000003/model") == model_digest(f"{train_at_once}/step-00000003/model")


def test_a_checkpoint_that_the_store_refused_is_counted_and_made_good_by_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = lapa.files.upload

    def refuse(folder: Path, url: str, **options: Any) -> None:
        if "step-00000003" in url:
            raise OSError("SlowDown")
        upload(folder, url, **options)

    monkeypatch.setattr(lapa.files, "upload", refuse)
    url = f"memory://{tmp_path.name}/run"
    events = Events()
    checkpoints = train(url, events, steps=8, checkpoint_every=3)
    assert "event=checkpoint-failed step=3" in caplog.text and "SlowDown" in caplog.text
    assert [step for kind, step in events.seen if kind == "checkpoint"] == [6, 8]
    assert checkpoints.failed_saves == 0
    assert lapa.files.list_names(url) == ["last", "step-00000006", "step-00000008"]


def test_a_store_that_stays_away_ends_the_run_after_a_few_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError("away")

    monkeypatch.setattr(lapa.files, "upload", refuse)
    events = Events()
    with pytest.raises(CheckpointError, match="away"):
        train(f"memory://{tmp_path.name}/run", events, steps=50, checkpoint_every=1)
    assert len(events.seen) <= 3 * (MAX_FAILED_SAVES + 1)


def test_state_and_model_in_many_files_come_back_as_they_were(tmp_path: Path) -> None:
    config = fit_config(ema_decay=0.9)
    engine = build_engine(ToyModel, TorchEngineConfig(), config, seed=5)
    engine.backward(engine.run(global_batch(0)))
    engine.update()
    snapshot = engine.snapshot()
    files = [path.name for path in write_parts(snapshot, tmp_path / "state", shard_bytes=2000)]
    join_indices(str(tmp_path / "state"), snapshot.header, 1, lapa.files.read_json)
    assert len([name for name in files if name.startswith("weights-")]) > 1

    fresh = build_engine(ToyModel, TorchEngineConfig(), config, seed=6)
    fresh.load_training_state(tmp_path / "state")
    assert all(torch.equal(engine.read(kind, name), fresh.read(kind, name)) for kind, name in engine._tensors())

    saved = SavedModel(StateReader(str(tmp_path / "state")))
    save_model(tmp_path / "many", kind="vla", config=ToyConfig(), state=saved, shard_bytes=2000)
    save_model(tmp_path / "one", kind="vla", config=ToyConfig(), state=saved)
    index = lapa.files.read_json(str(tmp_path / "many" / INDEX_FILE))
    assert len(set(index["weight_map"].values())) > 2 and not (tmp_path / "many" / WEIGHTS_FILE).exists()
    assert set(index["weight_map"]) == set(saved)
    with engine.averaged_weights():
        wanted = engine.full_state()
    for folder in ("many", "one"):
        loaded = load_state(str(tmp_path / folder))
        assert loaded.keys() == wanted.keys() and all(torch.equal(loaded[name], wanted[name]) for name in wanted)
        assert loaded["head.weight"] is loaded["words.weight"], "tied weights stay tied"
    assert model_digest(str(tmp_path / "many")) != model_digest(str(tmp_path / "one"))
