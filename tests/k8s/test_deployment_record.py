"""What a deployment remembers: pure, no server."""

from datetime import UTC, datetime, timedelta

import pytest
from deployment_specs import deployment_spec

from lapa_k8s.deployment_record import (
    HISTORY,
    Record,
    Release,
    expired,
    parse_record,
    retry_at,
    switched,
    with_failure,
    without_kept,
)
from lapa_k8s.errors import ClusterError, NotFound
from lapa_k8s.rollout import previous_release
from lapa_k8s.rollout_cluster import release_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def release(version: int) -> Release:
    spec = deployment_spec(version)
    like = Release(name="new", pinned=spec.pinned, follows="production", at="2026-01-01T00:00:00Z", spec={})
    return release_of(spec, like)


def ran(*versions: int, leaves: tuple[int, ...] = ()) -> Record:
    """A record after these versions, one after the other; of those in `leaves` the next was a rollback."""
    record: Record | None = None
    for version in versions:
        is_bad = record is not None and record.active.pinned.version in leaves
        record = switched(record, release(version), name="lapa-policy", now=NOW, keep=HOUR, leaves=is_bad)
    assert record is not None
    return record


def test_releases_are_numbered_and_only_the_newest_replaced_one_stays_warm():
    record = ran(1, 2, 3)
    assert [item.number for item in record.history] == [1, 2, 3]
    assert record.kept == {release(2).name: "2026-01-01T01:00:00Z"}
    assert expired(record, now=NOW) == [] and expired(record, now=NOW + HOUR) == [release(2).name]
    assert without_kept(record, [release(2).name]).kept == {}


def test_starting_again_what_runs_keeps_what_is_warm():
    assert ran(1, 2, 2).kept == ran(1, 2).kept


def test_history_has_an_end_and_numbers_go_on():
    record = ran(*range(1, HISTORY + 4))
    assert len(record.history) == HISTORY and record.active.number == HISTORY + 3
    assert len(record.model_dump_json()) < 128 * 1024, "an object's annotations hold 256 KiB"


@pytest.mark.parametrize(
    ("record", "goal"),
    [
        (ran(1, 2), 1),
        (ran(1, 2, 1, leaves=(2,)), None),
        (ran(1, 2, 3, 2, leaves=(3,)), 1),
        (ran(1, 2, 1, 2, leaves=(2,)), 1),
        (ran(1), None),
    ],
    ids=["one before", "never to what a rollback left", "further back", "a version may be tried again", "nothing"],
)
def test_a_rollback_goes_to_the_newest_other_version_that_none_left(record: Record, goal: int | None):
    found = record.previous()
    assert (found.pinned.version if found else None) == goal


def test_a_rollback_to_a_version_goes_there_and_follows_what_was_followed():
    back = previous_release(ran(1, 2, 3), version=1, by="ada", reason="drops the block")
    assert (back.pinned.version, back.kind, back.follows, back.name) == (1, "rollback", "production", release(1).name)
    with pytest.raises(NotFound, match="remembers no version 9; it ran version 1, 2"):
        previous_release(ran(1, 2), version=9, by="", reason="")


def test_deploying_a_rejected_version_again_accepts_it():
    record = ran(1, 2, 1, leaves=(2,))
    assert record.is_rejected(release(2).pinned.digest)
    again = switched(record, release(2), name="lapa-policy", now=NOW, keep=HOUR)
    assert again.rejected == ()


def test_a_version_that_fails_again_and_again_is_tried_ever_less_often():
    record, digest = ran(1), "f" * 64
    assert retry_at(record, digest) is None
    waits = []
    for _ in range(7):
        record = with_failure(record, digest, "no", now=NOW)
        waits.append((retry_at(record, digest) or NOW) - NOW)
    assert [int(wait.total_seconds() // 60) for wait in waits] == [1, 2, 5, 15, 60, 60, 60]
    assert retry_at(record, "e" * 64) is None, "another version is tried at once"


def test_a_release_that_is_started_again_by_a_newer_program_keeps_its_name():
    old = release(1)
    spec = deployment_spec(1).model_validate({**old.spec, "environment": {"NEW_DEFAULT": "1"}})
    assert spec.release == old.name


def test_a_record_of_another_program_is_refused_and_not_guessed_at():
    with pytest.raises(ClusterError, match="a newer lapactl wrote it"):
        parse_record("lapa-policy", '{"name": "lapa-policy", "history": [], "colour": "red"}')
    record = ran(1, 2)
    assert parse_record("lapa-policy", record.model_dump_json(exclude_defaults=True)) == record
