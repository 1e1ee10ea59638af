"""What should run against what runs, and how a reconciler closes the gap."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from lapa_k8s.deployment import Pinned
from lapa_k8s.deployment_record import Record, retry_at, stamp
from lapa_k8s.errors import ClusterError, NotFound, RolloutFailed
from lapa_k8s.rollout import Health, Outcome, Plan, Target, note_failure, now, prune, roll_out

Finder = Callable[[str, str], Pinned | str]
"""From a model and an alias to the version that it means now, or to why that is not known."""
Drift = Literal["in-sync", "drift", "pinned", "held", "unknown"]
"""
| state | when |
|---|---|
| in-sync | what runs is what the alias names |
| drift | the alias names another version |
| pinned | a version was deployed by its number, or kept by a rollback to one: no alias decides |
| held | the alias names a version that a rollback left; only `lapactl deploy` goes back to it |
| unknown | the registry does not say |
"""


class Standing(NamedTuple):
    """One deployment, as it should be and as it is."""

    record: Record
    desired: Pinned | None
    state: Drift
    words: str
    health: Health
    retry_at: datetime | None
    """When a version that failed is tried again."""


def standing(target: Target, name: str, find: Finder) -> Standing:
    """Raises NotFound."""
    held = target.read(name)
    if held is None:
        known = ", ".join(item for item in target.names() if target.read(item)) or "none"
        raise NotFound(
            f"there is no deployment '{name}' here; there is: {known}. `lapactl deploy start NAME@production` makes one"
        )
    record, active = held.record, held.record.active
    health = target.health(active)
    if active.follows is None:
        return Standing(record, None, "pinned", "a version was named", health, None)
    found = find(active.pinned.model, active.follows)
    if isinstance(found, str):
        return Standing(record, None, "unknown", found, health, None)
    state, words = _compare(record, found)
    return Standing(record, found, state, words, health, retry_at(record, found.digest))


def _compare(record: Record, desired: Pinned) -> tuple[Drift, str]:
    active = record.active
    if desired.digest == active.pinned.digest:
        return "in-sync", f"{active.follows} is version {desired.version}"
    if record.is_rejected(desired.digest):
        by = next(item for item in record.rejected if item.digest == desired.digest)
        why = f" ({by.reason})" if by.reason else ""
        return "held", f"{by.by or 'somebody'} rolled back from version {desired.version}{why}; no sync goes back to it"
    failed = record.failed
    if failed and failed.digest == desired.digest:
        return "drift", f"version {desired.version} failed {failed.times} times: {failed.words}"
    return "drift", f"{active.follows} is version {desired.version}, version {active.pinned.version} runs"


def sync(
    target: Target, name: str, found: Standing, plan: Plan, *, by: str, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Bring what runs to what should run, and start again what is gone. Raises RolloutFailed, Overtaken."""
    active = found.record.active
    if found.state == "drift" and found.desired is not None and not _is_waiting(found):
        moved = target.repinned(active, found.desired)
        release = moved.model_copy(
            update={
                "kind": "sync", "by": by, "at": stamp(now()),
                "reason": f"{active.follows} moved", "follows": active.follows,
            }
        )  # fmt: skip
        try:
            outcome = roll_out(target, name, release, plan, say=say)
        except RolloutFailed as error:
            _note(target, name, release.pinned.digest, str(error))
            raise
    elif found.health.state == "missing":
        say(f"{active.name} is gone: starting it again")
        again = {"kind": "sync", "by": by, "at": stamp(now()), "reason": "it was gone"}
        outcome = roll_out(target, name, active.model_copy(update=again), plan, say=say)
    else:
        outcome = Outcome("unchanged", found.record)
    prune(target, name, older_than=timedelta(seconds=plan.seconds * 2))
    return outcome


def describe(name: str, found: Standing, *, place: dict[str, Any]) -> dict[str, Any]:
    """What `lapactl deploy status` prints: a stable schema."""
    record, active = found.record, found.record.active
    return {
        "deployment": name,
        **place,
        "model": active.pinned.model,
        "follows": active.follows,
        "state": found.state,
        "reason": found.words,
        "desired": found.desired.model_dump(mode="json", exclude={"model"}) if found.desired else None,
        "actual": {
            "release": active.name,
            **active.pinned.model_dump(mode="json", exclude={"model"}),
            "since": active.at,
            "by": active.by,
            "kind": active.kind,
        },
        "health": found.health.state,
        "health_reason": found.health.words,
        "ready": found.health.ready,
        "wanted": found.health.wanted,
        "kept": dict(record.kept),
        "rejected": [item.model_dump(mode="json") for item in record.rejected],
        "failed": record.failed.model_dump(mode="json") if record.failed else None,
        "retry_at": stamp(found.retry_at) if found.retry_at else None,
    }


def _is_waiting(found: Standing) -> bool:
    return found.retry_at is not None and found.retry_at > now()


def _note(target: Target, name: str, digest: str, words: str) -> None:
    try:
        note_failure(target, name, digest, words)
    except ClusterError:
        return  # the next failure is noted; what failed here is told all the same
