"""What robots saw and were answered is kept: exactly, off their path, and readable by replay and by ingest."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policy_server import PATIENCE, TOKEN, running, wait_for
from pydantic import ValidationError

from lapa import files
from lapa.client import PolicyClient
from lapa.config.data import IngestConfig
from lapa.config.serving import ServingConfig
from lapa.config.sources import WebDatasetSource
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.stream import episode_arrays, episode_frames
from lapa.errors import DataError
from lapa.serving.metrics import Metrics
from lapa.serving.recording import Recorder
from lapa.serving.recording_format import Seen, pack_shard, read_samples
from lapa.types.episodes import Observation

CARD = {"name": "tiny", "version": "7", "digest": "d" * 64, "action_names": ["x", "y"]}


def seen(row: int, *, episode: str = "e", side: int = 33, instruction: str = "push") -> Seen:
    """Odd sides, whose last row and column the usual video formats lose; ten a second."""
    random = np.random.default_rng(row)
    return Seen(
        episode=episode, protocol="openpi", request_id=f"r{row}", time=1000 + row / 10, instruction=instruction,
        observation=Observation(
            image=random.integers(0, 256, (side, side + 2, 3), dtype=np.uint8),
            proprioception=np.array([row, -row], dtype=np.float32),
        ),
        actions=random.normal(size=(3, 2)).astype(np.float32), clamped=row % 2,
    )  # fmt: skip


def recorder(url: Path | str, **settings) -> Recorder:
    made = Recorder(ServingConfig(bundle="b", **settings), str(url), CARD, Metrics())
    made.start()
    return made


def kept(made: Recorder, name: str, **labels: str) -> float:
    return made._metrics.registry.get_sample_value(f"lapa_serving_{name}_total", labels) or 0.0


def read_recording(url: str) -> Iterator[Seen]:
    for sample in read_samples(url):
        yield from sample.rows()


def assert_same(found: Seen, wanted: Seen) -> None:
    assert np.array_equal(found.observation.image, wanted.observation.image)
    assert np.array_equal(found.observation.proprioception, wanted.observation.proprioception)
    assert np.array_equal(found.actions, wanted.actions)
    assert replace(found, observation=wanted.observation, actions=wanted.actions) == wanted


def test_a_recording_reads_back_bit_by_bit(tmp_path):
    made = recorder(tmp_path)
    rows = [seen(row) for row in range(5)] + [seen(5, episode="other", side=20), seen(6, episode="")]
    for row in rows:
        made.offer(row)
    made.close(PATIENCE)
    (shard,) = (tmp_path / ("d" * 12)).glob("*.tar")
    for place in (tmp_path, shard):
        for found, wanted in zip(sorted(read_recording(str(place)), key=lambda s: s.time), rows, strict=True):
            assert_same(found, wanted)
    assert kept(made, "recorded_observations") == len(rows) and kept(made, "recorded_bytes") == shard.stat().st_size


def test_a_new_instruction_or_picture_size_begins_a_new_sample_of_the_episode(tmp_path):
    made = recorder(tmp_path)
    rows = [seen(0), seen(1, instruction="pull"), seen(2, instruction="pull", side=20), seen(3)]
    for row in rows:
        made.offer(row)
    made.close(PATIENCE)
    found = list(read_recording(str(tmp_path)))
    assert [row.instruction for row in found] == ["push", "pull", "pull", "push"]
    assert {row.episode for row in found} == {"e"}


def test_ingest_makes_a_dataset_of_a_recording(tmp_path):
    made = recorder(tmp_path / "recorded")
    rows = {name: [seen(row, episode=name, side=48) for row in range(count)] for name, count in (("a", 6), ("b", 4))}
    for row in [*rows["a"], *rows["b"]]:
        made.offer(row)
    made.close(PATIENCE)
    source = WebDatasetSource(url=str(tmp_path / "recorded"), embodiment="arm", licence="CC0-1.0")
    ingest(IngestConfig(source=source, image_size=48, workers=1), str(tmp_path / "dataset"))
    dataset = Dataset.open(str(tmp_path / "dataset"))
    assert dataset.info.action_names == ("x", "y") and dataset.info.fps == (10.0,)
    assert dataset.info.licences == {"CC0-1.0": 2} and set(dataset.index["instruction"].to_pylist()) == {"push"}
    by_length = {len(episode_frames(dataset, row)): episode_arrays(dataset, row) for row in range(2)}
    for wanted in rows.values():
        arrays = by_length[len(wanted)]
        assert np.array_equal(arrays["actions"], [row.actions[0] for row in wanted])
        assert np.array_equal(arrays["proprioception"], [row.observation.proprioception for row in wanted])


@pytest.fixture
def held_store(monkeypatch):
    """A store that answers when it is let go."""
    let_go, began, write = threading.Event(), threading.Event(), files.write_bytes

    def slow(url: str, data: bytes) -> None:
        began.set()
        assert let_go.wait(PATIENCE)
        write(url, data)

    monkeypatch.setattr(files, "write_bytes", slow)
    return began, let_go


def test_a_slow_store_costs_observations_and_no_robots_time(tmp_path, held_store):
    began, let_go = held_store
    made = recorder(tmp_path, record_queue_bytes=2**20, record_shard_bytes=1024)
    made.offer(seen(0, episode=""))
    assert began.wait(PATIENCE)
    large = [seen(row, episode="", side=400) for row in range(1, 5)]  # 0.5 MB each; two fit
    for row in large:
        made.offer(row)  # returns, or this test would hang
    assert kept(made, "recording_dropped", reason="queue") == 2
    let_go.set()
    made.close(PATIENCE)
    assert kept(made, "recorded_observations") == 3
    assert [row.request_id for row in sorted(read_recording(str(tmp_path)), key=lambda s: s.time)] == ["r0", "r1", "r2"]


def test_a_store_that_is_away_is_counted_and_logged(tmp_path, monkeypatch, caplog):
    def away(url: str, data: bytes) -> None:
        raise ConnectionError("the bucket is away")

    monkeypatch.setattr(files, "write_bytes", away)
    made = recorder(tmp_path)
    made.offer(seen(0))
    made.close(PATIENCE)
    assert kept(made, "recording_dropped", reason="store") == 1 and not kept(made, "recorded_observations")
    assert "event=recording_away" in caplog.text and "the bucket is away" in caplog.text


def test_closing_does_not_wait_for_ever(tmp_path, held_store, caplog):
    _, let_go = held_store
    made = recorder(tmp_path)
    made.offer(seen(0))
    made.close(0.05)
    assert "event=recording_lost" in caplog.text
    let_go.set()


def test_an_observation_that_cannot_be_encoded_costs_its_piece_alone(tmp_path, monkeypatch):
    made = recorder(tmp_path)
    flat = Observation(image=np.zeros((0, 7, 3), np.uint8), proprioception=np.zeros(2, np.float32))
    made.offer(replace(seen(0), observation=flat))
    made.offer(seen(1, episode="next"))
    made.close(PATIENCE)
    assert kept(made, "recording_dropped", reason="error") == 1
    assert [row.request_id for row in read_recording(str(tmp_path))] == ["r1"]


def test_what_a_killed_server_would_lose_is_stored_in_time(tmp_path):
    made = recorder(tmp_path, record_shard_seconds=0.01)
    made.offer(seen(0))
    wait_for(lambda: kept(made, "recorded_observations"), "the shard being stored while the server lives")
    made.close(PATIENCE)


def test_a_share_is_of_whole_episodes_and_always_the_same(tmp_path):
    made, again = (recorder(tmp_path, record_share=0.3) for _ in range(2))
    names = [f"episode-{number}" for number in range(2000)]
    chosen = [name for name in names if made.wants(name)]
    assert 0.25 < len(chosen) / len(names) < 0.35
    assert chosen == [name for name in names if again.wants(name)]
    made.close(PATIENCE), again.close(PATIENCE)


def test_robots_of_every_protocol_are_recorded_and_no_secret_is(bundle, tmp_path, frame, state, monkeypatch):
    monkeypatch.setattr("lapa.serving.service.CLOSE_SECONDS", PATIENCE)
    with running(bundle, name="tiny", version="7", record=str(tmp_path)) as server:
        with PolicyClient(server.ws_url, token=TOKEN) as client:
            answers = [client.infer(frame, "push the star", state)]
            client.reset()
            answers.append(client.infer(frame[::-1], "push the star", state))
        body = {"image": frame.tolist(), "instruction": "go", "state": state.tolist()}
        episode = server.post(path="/reset").json()["episode"]
        for _ in range(2):
            assert server.post(body, path=f"/act?episode={episode}").status_code == 200
        assert server.post(body, path="/act?episode=../../x").status_code == 400
        assert server.post(body).status_code == 200
        digest = server.service.model.card["digest"]
    rows = sorted(read_recording(str(tmp_path)), key=lambda row: row.time)
    assert [row.protocol for row in rows] == ["openpi"] * 2 + ["rest"] * 3
    assert rows[0].episode != rows[1].episode and rows[2].episode == rows[3].episode == episode
    for row, answer in zip(rows[:2], answers, strict=True):
        assert np.array_equal(row.actions, answer.actions)
    assert np.array_equal(rows[1].observation.image, frame[::-1])
    assert np.array_equal(rows[1].observation.proprioception, state)
    (shard,) = (tmp_path / digest[:12]).glob("*.tar")
    data = shard.read_bytes()
    assert TOKEN.encode() not in data and digest.encode() in data


def test_without_the_setting_nothing_is_recorded(server, frame, state):
    assert server.service.config.record == "" and server.service._recorder is None


def test_a_store_that_nobody_knows_is_refused_before_the_server_starts():
    with pytest.raises(ValidationError, match="s4://, which is no store that fsspec knows"):
        ServingConfig(bundle="b", record="s4://bucket")


def test_what_is_no_recording_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.tar: name the folder"):
        list(read_recording(str(tmp_path)))
    (tmp_path / "other.tar").write_bytes(pack_shard({"a": {"json": b"{}"}}))
    with pytest.raises(DataError, match=r"other\.tar#a is no recording of a policy server"):
        list(read_recording(str(tmp_path)))
    (tmp_path / "other.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="is damaged"):
        list(read_recording(str(tmp_path)))
