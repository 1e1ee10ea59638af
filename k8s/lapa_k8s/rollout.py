"""Blue/green, wherever servers run: start beside what runs, wait until it is ready, switch, keep the old one warm.

Whatever goes wrong before the switch leaves what runs untouched and takes the new servers away again. The switch is
one write under a precondition, so of two deployers only one wins.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol

from lapa_k8s.deployment import Pinned
from lapa_k8s.deployment_record import (
    Record,
    Release,
    expired,
    stamp,
    switched,
    with_failure,
    without_kept,
)
from lapa_k8s.errors import ClusterError, ClusterUnreachable, NotFound, Overtaken, RolloutFailed

POLL_SECONDS = 1.0
WRITE_TRIES = 8
"""Of a write whose object was changed in between, but not by a deployer: a load balancer reports its address."""


class Held(NamedTuple):
    """A record as it was read; `token` is the precondition of the next write."""

    record: Record
    token: str


class Started(NamedTuple):
    """`claim` answers for the release until somebody else takes it over."""

    claim: str
    is_new: bool


class Health(NamedTuple):
    """Of one release's servers."""

    state: Literal["ready", "starting", "failed", "missing"]
    ready: int
    wanted: int
    words: str
    """Why they are not ready, with the last line of their log where it says it."""


class Target(Protocol):
    """A place where servers run. Methods raise ClusterError."""

    def names(self) -> list[str]:
        """The deployments that are there."""

    def read(self, name: str) -> Held | None: ...

    def write(self, record: Record, token: str | None) -> None:
        """Keep the record, and send who asks to its active release, both or neither. Overtaken where the token is no
        longer the newest; None means that there is nothing yet."""

    def start(self, release: Release) -> Started:
        """Make the release's servers, or take over the ones that are there."""

    def claims(self, name: str) -> dict[str, str]:
        """Releases of a deployment whose servers exist, and who answers for them."""

    def health(self, release: Release) -> Health: ...

    def discard(self, release: str, claim: str) -> bool:
        """Take servers away, unless somebody else answers for them by now."""

    def relieve(self, release: Release) -> None:
        """Close the connections of a replaced release; it stays warm."""

    def remove(self, name: str) -> None:
        """The deployment, its record and all its servers."""

    def repinned(self, release: Release, pinned: Pinned) -> Release:
        """The same settings with another version."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a rollout goes about it."""

    seconds: float
    """Longest time until the new version is ready."""
    keep: timedelta
    """How long the replaced version stays warm."""
    leaves: bool = False
    """What runs is bad: a reconciler must not go back to it."""
    is_reconnecting: bool = False
    """Connections to what was replaced are closed at once."""
    is_waiting: bool = True
    """Otherwise the new version is only started; the same command goes on."""


class Outcome(NamedTuple):
    """What a rollout came to."""

    kind: Literal["unchanged", "started", "switched"]
    record: Record | None
    replaced: Release | None = None


def now() -> datetime:
    return datetime.now(UTC)


def new_claim() -> str:
    """Begins with the time; fits a label."""
    return f"{_time_in_claim(now())}-{uuid.uuid4().hex[:16]}"


def roll_out(
    target: Target, name: str, release: Release, plan: Plan, *, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Make a release what runs. Raises RolloutFailed, Overtaken; then what ran before still runs."""
    held = target.read(name)
    _refuse_other_model(held, name, release)
    if held and _runs_already(target, held, release):
        return Outcome("unchanged", _follow(target, held, release))
    started = target.start(release)
    say(f"{release.name} is {'started' if started.is_new else 'there already'}: {release.pinned.words}")
    try:
        if not plan.is_waiting:
            return Outcome("started", held.record if held else None)
        _await_ready(target, release, plan.seconds, say)
        record = _switch(target, name, held, release, plan)
    except (ClusterError, KeyboardInterrupt, SystemExit):
        _clean_up(target, name, release, started, say)
        raise
    replaced = held.record.active if held and held.record.active.name != record.active.name else None
    if replaced and plan.is_reconnecting:
        target.relieve(replaced)
    return Outcome("switched", record, replaced)


def previous_release(record: Record, *, version: int | None, by: str, reason: str) -> Release:
    """The release that a rollback makes. Raises NotFound where there is nothing to go back to."""
    goal = record.previous() if version is None else record.of_version(version)
    if goal is None:
        known = ", ".join(sorted({str(item.pinned.version) for item in record.history}))
        raise NotFound(
            f"'{record.name}' remembers no {'release to go back to' if version is None else f'version {version}'}; it "
            f"ran version {known}. Deploy one by its number: "
            f"`lapactl deploy start {record.active.pinned.model}/VERSION`"
        )
    return goal.model_copy(
        update={
            "kind": "rollback", "by": by, "reason": reason, "at": stamp(now()),
            "follows": record.active.follows,
        }
    )  # fmt: skip


def prune(target: Target, name: str, *, older_than: timedelta) -> list[str]:
    """Take away replaced releases whose time is over, and what deployers that died left behind."""
    held = target.read(name)
    claims = target.claims(name)
    over: list[str] = []
    known: set[str] = set()
    if held is not None:
        over = expired(held.record, now=now())
        if over:
            target.write(without_kept(held.record, over), held.token)
        known = {held.record.active.name, *held.record.kept} - set(over)
    limit = _time_in_claim(now() - older_than)
    gone = [item for item, claim in claims.items() if item not in known and (item in over or claim < limit)]
    return [item for item in gone if target.discard(item, claims[item])]


def note_failure(target: Target, name: str, digest: str, words: str) -> None:
    """Remember that a version did not come up, for the reconciler's patience."""
    held = target.read(name)
    if held is not None:
        target.write(with_failure(held.record, digest, words, now=now()), held.token)


def _time_in_claim(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%SZ}"


def _refuse_other_model(held: Held | None, name: str, release: Release) -> None:
    if held and held.record.active.pinned.model != release.pinned.model:
        raise Overtaken(
            f"'{name}' serves {held.record.active.pinned.model}, and robots that ask it expect that; choose another "
            f"--name for {release.pinned.model}, or `lapactl deploy delete {name}` first"
        )


def _runs_already(target: Target, held: Held, release: Release) -> bool:
    return held.record.active.name == release.name and target.health(release).state == "ready"


def _follow(target: Target, held: Held, release: Release) -> Record:
    """What runs is right; what it follows, and that nobody rejects it, may be new."""
    active = held.record.active
    if active.follows == release.follows and not held.record.failed:
        return held.record
    changed = active.model_copy(update={"follows": release.follows})
    record = held.record.model_copy(update={"history": (*held.record.history[:-1], changed), "failed": None})
    target.write(record, held.token)
    return record


def _await_ready(target: Target, release: Release, seconds: float, say: Callable[[str], None]) -> None:
    """Raises RolloutFailed with the reason."""
    deadline, told = time.monotonic() + seconds, ""
    while True:
        health = _look(target, release)
        if health.state == "ready":
            return
        if health.state in ("failed", "missing"):
            raise RolloutFailed(_in_vain(release, health.words))
        if time.monotonic() >= deadline:
            raise RolloutFailed(_in_vain(release, f"it was not ready after {seconds:.0f} s: {health.words}"))
        if health.words != told:
            told = health.words
            say(f"waiting: {told}")
        time.sleep(POLL_SECONDS)


def _look(target: Target, release: Release) -> Health:
    """A cluster that is away for a moment, as in an upgrade, ends no rollout."""
    try:
        return target.health(release)
    except ClusterUnreachable as error:
        return Health("starting", 0, 0, str(error))


def _in_vain(release: Release, why: str) -> str:
    return f"{release.pinned.words} did not become ready: {why}. What ran before still runs"


def _switch(target: Target, name: str, held: Held | None, release: Release, plan: Plan) -> Record:
    """Raises Overtaken where another release was switched to in the meantime."""
    for _ in range(WRITE_TRIES):
        record = switched(
            held.record if held else None, release, name=name, now=now(), keep=plan.keep, leaves=plan.leaves
        )
        try:
            target.write(record, held.token if held else None)
            return record
        except ClusterError:
            # Also after a broken connection: the write may have arrived.
            found = target.read(name)
            if found and found.record.active.name == release.name:
                return found.record
            if found is None or held is None or found.record.history != held.record.history:
                raise
            held = found  # the object changed, what runs did not
    raise Overtaken(f"'{name}' is changed by somebody else all the time; nothing was switched. Try again")


def _clean_up(target: Target, name: str, release: Release, started: Started, say: Callable[[str], None]) -> None:
    """Take the new servers away, unless robots ask them after all, or may have to go back to them."""
    try:
        held = target.read(name)
        needed = {held.record.active.name, *held.record.kept} if held else set()
        if release.name not in needed:
            target.discard(release.name, started.claim)
    except ClusterError as error:
        say(f"{release.name} may be left behind ({error}); `lapactl deploy prune {name}` takes it away")
