"""The journal and its delivery, against a server that exists only here."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lapa.tracking.delivery import Delivery, Refused, next_batch
from lapa.tracking.journal import Entry, Journal


class Server:
    """Takes entries unless it is away; refuses those named."""

    def __init__(self) -> None:
        self.taken: list[Entry] = []
        self.is_away = False
        self.refuses: set[int] = set()
        self.requests = 0

    def take(self, entries: Sequence[Entry]) -> None:
        self.requests += 1
        if self.is_away:
            raise ConnectionError("away")
        if any(entry.number in self.refuses for entry in entries):
            raise Refused("no")
        self.taken += entries


@pytest.fixture
def server() -> Server:
    return Server()


GENEROUS_SECONDS = 300


def deliver(journal: Journal, server: Server) -> Delivery:
    delivery = Delivery(journal, server, every_seconds=0.01, first_wait_seconds=0.01, longest_wait_seconds=0.05)
    delivery.start()
    return delivery


def log(journal: Journal, step: int) -> None:
    journal.append("metrics", {"step": step, "values": {"loss": 1.0 / (step + 1)}})


def test_entries_arrive_once_and_in_order(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path)
    for step in range(250):
        log(journal, step)
    delivery = deliver(journal, server)
    for step in range(250, 500):
        log(journal, step)
    assert delivery.flush(GENEROUS_SECONDS)
    delivery.stop()
    assert [entry.data["step"] for entry in server.taken] == list(range(500))
    assert server.requests <= 251, "what waits travels together"


def test_nothing_is_lost_while_the_server_is_away(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path)
    server.is_away = True
    delivery = deliver(journal, server)
    for step in range(50):
        log(journal, step)
    assert not delivery.flush(0.3)
    server.is_away = False
    assert delivery.flush(GENEROUS_SECONDS)
    delivery.stop()
    assert [entry.data["step"] for entry in server.taken] == list(range(50))


def test_a_restarted_process_sends_what_is_undelivered_and_nothing_twice(tmp_path: Path, server: Server) -> None:
    first = Journal(tmp_path)
    for step in range(10):
        log(first, step)
    first.delivered(first.pending(4))
    first.close()

    again = Journal(tmp_path)
    log(again, 10)
    delivery = deliver(again, server)
    assert delivery.flush(GENEROUS_SECONDS)
    delivery.stop()
    assert [entry.data["step"] for entry in server.taken] == list(range(4, 11))
    assert [entry.number for entry in server.taken] == list(range(5, 12))


def test_a_line_torn_by_a_killed_process_costs_only_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    log(journal, 0)
    journal.close()
    segment = next(tmp_path.glob("entries-*.jsonl"))
    segment.write_bytes(segment.read_bytes() + b'{"n": 2, "kind": "met')

    again = Journal(tmp_path)
    log(again, 1)
    again.close()
    assert [entry.data["step"] for entry in Journal(tmp_path).pending(10)] == [0, 1]


def test_a_refused_entry_does_not_hold_up_the_others(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path)
    for step in range(6):
        log(journal, step)
    server.refuses = {3}
    delivery = deliver(journal, server)
    assert delivery.flush(GENEROUS_SECONDS)
    delivery.stop()
    assert [entry.number for entry in server.taken] == [1, 2, 4, 5, 6]
    assert '"n": 3' in (tmp_path / "rejected.jsonl").read_text()


def test_delivered_segments_are_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=300)
    for step in range(100):
        log(journal, step)
    assert len(list(tmp_path.glob("entries-*.jsonl"))) > 10
    journal.delivered(journal.pending(100))
    assert len(list(tmp_path.glob("entries-*.jsonl"))) == 1
    log(journal, 100)
    journal.close()
    assert [entry.data["step"] for entry in Journal(tmp_path).pending(10)] == [100]


def test_a_file_waits_in_the_journal_even_when_its_original_is_gone(tmp_path: Path, server: Server) -> None:
    original = tmp_path / "note.txt"
    original.write_text("hello")
    journal = Journal(tmp_path / "journal")
    kept = journal.keep_file(original, "note.txt")
    journal.append("file", {"file": kept, "folder": ""})
    original.unlink()
    assert (journal.folder / kept).read_text() == "hello"
    journal.delivered(journal.pending(1))
    assert not (journal.folder / kept).exists()


def test_a_batch_ends_where_another_kind_of_request_begins() -> None:
    entries = [
        Entry(1, "metrics", 0, {"step": 0, "values": {"a": 1.0}}),
        Entry(2, "tags", 0, {"values": {"t": "1"}}),
        Entry(3, "file", 0, {"file": "f", "folder": ""}),
        Entry(4, "metrics", 0, {"step": 1, "values": {"a": 1.0}}),
    ]
    assert [e.number for e in next_batch(entries)] == [1, 2]
    assert [e.number for e in next_batch(entries[2:])] == [3]


def test_a_batch_stays_within_what_one_request_may_carry() -> None:
    values = dict.fromkeys(map(str, range(300)), 1.0)
    entries = [Entry(i, "metrics", 0, {"step": i, "values": values}) for i in range(9)]
    assert len(next_batch(entries)) == 3
