"""What a deployment ran, runs and may go back to; pure.

The record is kept where the deployment is (an annotation of its Service, a file beside a local one), so that going back
asks neither the registry nor a profile: every release carries all that starts it again.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError

from lapa_k8s.base import Spec
from lapa_k8s.deployment import Pinned
from lapa_k8s.errors import ClusterError

HISTORY = 12
"""Releases that are remembered. An object's annotations hold 256 KiB in all, a release takes about 2."""
RETRY_MINUTES = (1, 2, 5, 15, 60)
"""How long a reconciler leaves a version alone that failed once, twice, …"""


class Release(Spec):
    """One entry of the history: from then on this was served."""

    number: int = Field(1, gt=0)
    """Counted by the record."""
    name: str
    """Of what runs it; the same name is the same version with the same settings."""
    pinned: Pinned
    follows: str | None = None
    """Alias that decides what should run; null where a version was named."""
    kind: Literal["deploy", "sync", "rollback"] = "deploy"
    by: str = ""
    at: str
    """RFC 3339, UTC."""
    reason: str = ""
    spec: dict[str, Any]
    """All that starts it again, as its target writes it."""


class Rejected(Spec):
    """A version that a rollback left: no reconciler goes back to it."""

    version: int
    digest: str
    by: str = ""
    at: str
    reason: str = ""


class Failure(Spec):
    """A version that a reconciler could not bring up."""

    digest: str
    times: int = Field(gt=0)
    at: str
    words: str


class Record(Spec):
    """Of one deployment; the last release is what runs."""

    name: str
    history: tuple[Release, ...] = Field(min_length=1)
    """Oldest first."""
    kept: dict[str, str] = Field({})
    """Replaced releases that are still warm, by name, and until when."""
    rejected: tuple[Rejected, ...] = ()
    failed: Failure | None = None

    @property
    def active(self) -> Release:
        return self.history[-1]

    def is_rejected(self, digest: str) -> bool:
        return any(item.digest == digest for item in self.rejected)

    def previous(self) -> Release | None:
        """What to go back to: the newest other release that no rollback left."""
        others = [
            item for item in self.history if item.name != self.active.name and not self.is_rejected(item.pinned.digest)
        ]
        return others[-1] if others else None

    def of_version(self, version: int) -> Release | None:
        """The newest release of a version."""
        found = [item for item in self.history if item.pinned.version == version]
        return found[-1] if found else None


def switched(
    record: Record | None, release: Release, *, name: str, now: datetime, keep: timedelta, leaves: bool = False
) -> Record:
    """The record once a release is what runs. What it replaces stays warm for a while, and nothing older does;
    ``leaves`` says that what it replaces was bad."""
    release = release.model_copy(update={"number": record.active.number + 1 if record else 1})
    if record is None:
        return Record(name=name, history=(release,))
    old = record.active
    if old.name == release.name:  # started again, or followed otherwise: what is warm stays so
        kept = record.kept
    else:
        kept = {old.name: stamp(now + keep)} if keep else {}
    rejected = tuple(item for item in record.rejected if item.digest != release.pinned.digest)
    if leaves and old.pinned.digest != release.pinned.digest:
        bad = Rejected(
            version=old.pinned.version, digest=old.pinned.digest, by=release.by, at=release.at, reason=release.reason
        )
        rejected = (*(item for item in rejected if item.digest != bad.digest), bad)
    return Record(name=name, history=(*record.history, release)[-HISTORY:], kept=kept, rejected=rejected)


def expired(record: Record, *, now: datetime) -> list[str]:
    """Names of replaced releases whose time is over."""
    return [name for name, until in record.kept.items() if datetime.fromisoformat(until) <= now]


def without_kept(record: Record, names: list[str]) -> Record:
    return record.model_copy(update={"kept": {name: until for name, until in record.kept.items() if name not in names}})


def with_failure(record: Record, digest: str, words: str, *, now: datetime) -> Record:
    """One more failure to bring a version up."""
    times = record.failed.times + 1 if record.failed and record.failed.digest == digest else 1
    return record.model_copy(
        update={"failed": Failure(digest=digest, times=times, at=stamp(now), words=words.strip()[:1000])}
    )


def retry_at(record: Record, digest: str) -> datetime | None:
    """When a version that failed is tried again; None for one that did not fail."""
    failed = record.failed
    if failed is None or failed.digest != digest:
        return None
    minutes = RETRY_MINUTES[min(failed.times, len(RETRY_MINUTES)) - 1]
    return datetime.fromisoformat(failed.at) + timedelta(minutes=minutes)


def parse_record(name: str, text: str) -> Record:
    """Raises ClusterError for one that this program cannot read."""
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise ClusterError(
            f"the record of deployment '{name}' cannot be read ({error.error_count()} problems, the first: "
            f"{error.errors()[0]['msg']}); a newer lapactl wrote it, or somebody changed it. Nothing was changed; use "
            "the newest lapactl"
        ) from None


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
