"""The block cache stays whole and within its bound, whoever is killed, and however many use it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lapa.data.cache import BlockCache

BLOCK = 1000
SPAWN = multiprocessing.get_context("spawn")


def name_of(number: int) -> str:
    return f"{number:08x}-block"


def block_of(number: int) -> bytes:
    return bytes([number % 251]) * BLOCK


def read(cache: BlockCache, number: int, fetched: list[int] | None = None) -> bytes:
    def fetch() -> bytes:
        if fetched is not None:
            fetched.append(number)
        return block_of(number)

    return cache.read(name_of(number), 0, BLOCK, fetch)


def stored_bytes(folder: Path) -> int:
    """As a scan sees them while others evict."""
    total = 0
    for entry in os.scandir(folder / "blocks"):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_a_block_is_fetched_once_and_any_part_of_it_is_read(tmp_path):
    cache, fetched = BlockCache(tmp_path, 10 * BLOCK), []
    assert read(cache, 1, fetched) == block_of(1)
    assert cache.read(name_of(1), 10, 25, lambda: pytest.fail("it is there")) == block_of(1)[10:25]
    assert fetched == [1] and cache.has(name_of(1))


def test_what_was_used_least_recently_makes_room(tmp_path):
    cache, fetched = BlockCache(tmp_path, 4 * BLOCK), []
    for number in range(4):
        read(cache, number)
        _age(tmp_path, number, seconds=100 - number)
    read(cache, 0)  # used again
    read(cache, 9)
    assert cache.has(name_of(0)) and cache.has(name_of(9))
    assert not cache.has(name_of(1))
    assert stored_bytes(tmp_path) <= 4 * BLOCK
    assert read(cache, 1, fetched) == block_of(1) and fetched == [1]


def test_a_block_larger_than_the_bound_is_handed_over_and_not_kept(tmp_path):
    cache = BlockCache(tmp_path, BLOCK - 1)
    assert read(cache, 1) == block_of(1)
    assert not cache.has(name_of(1))


def test_what_a_killed_writer_left_is_neither_read_nor_kept_for_ever(tmp_path):
    """Killed after its bytes are written and before they get their name."""
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from lapa.data.cache import BlockCache
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        BlockCache(Path(sys.argv[1]), 3000).read("00000001-block", 0, 1000, lambda: bytes(1000))
    """)
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=600)
    assert killed.returncode == -signal.SIGKILL
    assert stored_bytes(tmp_path) == BLOCK
    cache = BlockCache(tmp_path, 3 * BLOCK)
    assert not cache.has(name_of(1)) and read(cache, 1) == block_of(1)  # its claim died with it
    for number in range(2, 12):
        read(cache, number)
        assert stored_bytes(tmp_path) <= 3 * BLOCK
    assert not list((tmp_path / "blocks").glob("*.partial"))


def test_a_block_cut_short_on_the_disk_is_fetched_again(tmp_path):
    cache, fetched = BlockCache(tmp_path, 10 * BLOCK), []
    read(cache, 1)
    os.truncate(tmp_path / "blocks" / name_of(1), 10)
    assert read(cache, 1, fetched) == block_of(1) and fetched == [1]
    assert read(cache, 1, fetched) == block_of(1) and fetched == [1]


@pytest.mark.parametrize("ledger", ["", "garbage", f"{10**12:020d}"])
def test_a_damaged_ledger_costs_a_look_at_the_folder(tmp_path, ledger):
    cache = BlockCache(tmp_path, 5 * BLOCK)
    read(cache, 1)
    (tmp_path / "used").write_text(ledger)
    read(cache, 2)
    assert cache.has(name_of(1)) and cache.has(name_of(2))
    assert int((tmp_path / "used").read_text()) == 2 * BLOCK


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = BlockCache(tmp_path / "file" / "cache", 10 * BLOCK)
    assert read(cache, 1) == block_of(1) == read(cache, 1)


def test_a_download_that_fails_leaves_nothing_and_lets_the_next_one_try(tmp_path):
    def fail() -> bytes:
        raise OSError("reset")

    cache = BlockCache(tmp_path, 10 * BLOCK)
    with pytest.raises(OSError, match="reset"):
        cache.read(name_of(1), 0, BLOCK, fail)
    assert read(cache, 1) == block_of(1)


def test_of_threads_that_want_a_block_one_fetches_it(tmp_path):
    cache, fetched, start = BlockCache(tmp_path, 100 * BLOCK), [], threading.Barrier(6)

    def run() -> None:
        start.wait()
        for number in range(10):
            assert read(cache, number, fetched) == block_of(number)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == list(range(10))


def test_processes_share_blocks_and_keep_the_bound(tmp_path):
    """Two jobs in one folder, with different bounds: every byte is right, and the larger bound holds."""
    jobs = [SPAWN.Process(target=_job, args=(tmp_path / "cache", bound)) for bound in (12, 12, 8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=600)
    assert [job.exitcode for job in jobs] == [0, 0, 0]


def _job(folder: Path, bound: int) -> None:
    cache = BlockCache(folder, bound * BLOCK)
    for turn in range(60):
        number = (turn * 7 + bound) % 20
        assert read(cache, number) == block_of(number)
        assert stored_bytes(folder) <= 12 * BLOCK


def _age(folder: Path, number: int, *, seconds: int) -> None:
    path = folder / "blocks" / name_of(number)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
