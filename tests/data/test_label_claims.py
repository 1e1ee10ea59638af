"""Processes and jobs share the shards of one dataset; whoever is slow or dead holds up no other."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lapa import files
from lapa.data.label_claims import Claims
from lapa.data.labels import Labels
from tests.builders import make_dataset
from tests.distributed import rank_environment
from tests.s3_server import S3Server, s3

__all__ = ["s3"]

SHARDS = 8
PATIENT = 600.0
"""A lease that no test outlasts, on the slowest machine."""


class Workers:
    """Real processes on one dataset and one folder of labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = make_dataset(folder / "data", episodes=SHARDS, frames=8, episodes_per_shard=1)
        self.labels = str(folder / "labels")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, rank: int, world_size: int, *options: str, lease_seconds: float = PATIENT) -> None:
        numbers = (str(rank), str(world_size), str(lease_seconds))
        command = [sys.executable, str(Path(__file__).parent / "label_worker.py"), self.dataset, self.labels]
        command += [str(self.folder / f"{name}.log"), *numbers, *options]
        self.processes[name] = subprocess.Popen(command, env=rank_environment())

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENT
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def until_started(self, name: str) -> None:
        self.until((self.folder / f"{name}.started").exists)

    def end(self, name: str) -> int:
        return self.processes[name].wait(PATIENT)

    def shards_of(self, *names: str) -> list[int]:
        logs = [self.folder / f"{name}.log" for name in names]
        return [int(line) for log in logs if log.exists() for line in log.read_text().split()]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    for process in workers.processes.values():
        process.kill()
        process.wait()


def test_a_slow_rank_does_only_what_it_can_and_two_jobs_label_every_shard_once(workers: Workers) -> None:
    go_on = workers.folder / "go-on"
    workers.start("slow", 0, 2, "--wait-for", str(go_on))
    workers.until_started("slow")
    workers.start("other job, 0", 0, 2)
    workers.start("other job, 1", 1, 2)
    workers.until(lambda: len(workers.shards_of("other job, 0", "other job, 1")) == SHARDS - 1)
    assert workers.shards_of("slow") == []
    go_on.touch()
    assert [workers.end(name) for name in workers.processes] == [0, 0, 0]
    assert sorted(workers.shards_of(*workers.processes)) == list(range(SHARDS))
    assert Labels.open(workers.labels).codes_of(3).tolist() == [[3] * 4] * 3
    assert files.list_names(f"{workers.labels}/claims") == [], "claims go with the work"


@pytest.mark.parametrize(("fate", "lease_seconds"), [("--die", PATIENT), ("--freeze", 2)])
def test_the_shard_of_a_rank_that_is_dead_or_stands_still_is_taken_over(
    workers: Workers, fate: str, lease_seconds: float
) -> None:
    """The dead one's at once: its process is gone from this machine."""
    workers.start("lost", 1, 2, fate, lease_seconds=lease_seconds)
    workers.until_started("lost")
    if fate == "--die":
        assert workers.end("lost") == -signal.SIGKILL
    workers.start("living", 0, 2, lease_seconds=lease_seconds)
    assert workers.end("living") == 0
    assert sorted(workers.shards_of("living")) == list(range(SHARDS)) and workers.shards_of("lost") == []
    assert len(Labels.open(workers.labels).codes_of(SHARDS - 1)) == 3


def test_labelling_goes_on_after_a_restart_with_what_is_missing(workers: Workers) -> None:
    workers.start("first", 0, 1)
    assert workers.end("first") == 0
    removed = Path(workers.labels) / "shard-00005.parquet"
    before = removed.read_bytes()
    removed.unlink()
    workers.start("second", 0, 1)
    assert workers.end("second") == 0
    assert workers.shards_of("second") == [5] and removed.read_bytes() == before


def test_of_many_who_claim_one_shard_at_once_one_gets_it(tmp_path: Path) -> None:
    url = f"{tmp_path}/labels"
    contenders = 8
    together, answered = threading.Barrier(contenders), threading.Barrier(contenders)

    def claim(_: int) -> bool:
        claims = Claims(url, lease_seconds=PATIENT)
        together.wait(PATIENT)
        with claims.taken(3) as is_ours:
            answered.wait(PATIENT)
            return is_ours

    with ThreadPoolExecutor(contenders) as pool:
        assert sum(pool.map(claim, range(contenders))) == 1
    assert Claims(url, lease_seconds=PATIENT).generations() == {}


def test_a_claim_is_silent_when_its_number_stood_still_for_a_lease_of_the_watcher_s_clock(tmp_path: Path) -> None:
    now = [0.0]
    owner = Claims(str(tmp_path), lease_seconds=60)
    watcher = Claims(str(tmp_path), lease_seconds=60, clock=lambda: now[0])
    with owner.taken(7) as is_ours:
        assert is_ours and watcher.generations() == {7: 0}
        assert not watcher.is_silent(7, 0)
        now[0] = 59.0
        assert not watcher.is_silent(7, 0)
        files.write_bytes(f"{owner.url}/shard-00007-000", owner._content())
        now[0] = 61.0
        assert not watcher.is_silent(7, 0), "it beat once more"
        now[0] = 121.0
        assert watcher.is_silent(7, 0)
        with watcher.taken(7, 1) as is_taken_over:
            assert is_taken_over and owner.generations() == {7: 1}
    assert not watcher.is_silent(7, 0), "gone"


@pytest.mark.slow
def test_claims_hold_on_a_real_object_store(s3: S3Server) -> None:
    url = f"{s3.new_bucket('claims')}/labels"
    claims = [Claims(url, lease_seconds=PATIENT) for _ in range(2)]
    with claims[0].taken(3) as first, claims[1].taken(3) as second:
        assert (first, second) == (True, False)
    with claims[1].taken(3) as again:
        assert again
