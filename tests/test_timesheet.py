"""What processes note of their own work."""

import os
import time
from pathlib import Path

import pytest

from lapa import timesheet
from lapa.data.pool import worker_pool


def spend(seconds: float) -> None:
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        pass


def work(number: int) -> int:
    with timesheet.part("shard", f"shard {number}"), timesheet.part("encode"):
        for _ in timesheet.each("decode", (spend(0.01) for _ in range(3))):
            spend(0.002)
    return number


def test_time_belongs_to_the_innermost_part(tmp_path: Path):
    with timesheet.kept(tmp_path, traced=1):
        assert [work(0), work(1)] == [0, 1]
    first, second = timesheet.handed_in(tmp_path).jobs
    assert (first.label, first.name, first.process) == ("shard 0", "shard", os.getpid())
    assert set(first.seconds) == set(first.cpu_seconds) == {"shard", "encode", "decode"}
    assert first.seconds["decode"] >= 0.03 and first.seconds["encode"] >= 0.006
    assert sum(first.seconds.values()) == pytest.approx(first.end - first.start)
    assert [name for name, _, _ in first.spans] == ["decode"] * 4 + ["encode"]  # the fourth finds no more
    assert all(first.start <= start <= end <= first.end for _, start, end in first.spans)
    assert second.spans == [] and second.seconds["decode"] >= 0.03  # counted, and not traced


def test_an_error_inside_a_part_leaves_the_next_ones_in_order(tmp_path: Path):
    with timesheet.kept(tmp_path, traced=1):
        with pytest.raises(ValueError), timesheet.part("shard"), timesheet.part("read"):
            raise ValueError
        work(1)
    assert [set(job.seconds) for job in timesheet.handed_in(tmp_path).jobs] == [
        {"shard", "read"},
        {"shard", "encode", "decode"},
    ]


def test_worker_processes_hand_in_theirs_and_what_they_waited_shows(tmp_path: Path):
    with (
        timesheet.kept(tmp_path, traced=0),
        timesheet.part("all"),
        worker_pool(1, work="a test", remedy="") as pool,
    ):
        assert list(pool.map(work, range(2))) == [0, 1]
    found = timesheet.handed_in(tmp_path)
    workers = [job for job in found.jobs if job.process != os.getpid()]
    assert [job.label for job in workers] == ["shard 0", "shard 1"]
    there = found.pools[0].end - found.pools[0].start
    assert found.waited(parent=os.getpid()) == pytest.approx(there - sum(job.end - job.start for job in workers))


def test_nothing_is_noted_or_slowed_while_nobody_asks(tmp_path: Path):
    items = iter(())
    assert timesheet.orders() is None and timesheet.each("decode", items) is items
    with timesheet.kept(tmp_path, traced=1):
        pass
    work(0)
    assert list(tmp_path.iterdir()) == []
