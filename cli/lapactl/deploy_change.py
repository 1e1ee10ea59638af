"""`lapactl deploy sync`, `rollback`, `prune` and `delete`."""

from collections.abc import Callable
from datetime import timedelta
from time import sleep
from typing import Any

from lapa.errors import NotRegistered, TrackingError
from lapa_k8s.deployment_record import Release
from lapa_k8s.errors import ClusterError
from lapa_k8s.rollout import Outcome, Plan, previous_release, prune, roll_out
from lapa_k8s.rollout_cluster import ClusterTarget, keep_of, startup_seconds_of
from lapa_k8s.rollout_sync import Finder, standing, sync
from lapactl.deploy_local import LocalSpec
from lapactl.deploy_pinned import Absent
from lapactl.deploy_places import AnyTarget
from lapactl.deploy_show import unknown
from lapactl.deploy_start import LOCAL_STARTUP_SECONDS, report
from lapactl.output import Output
from lapactl.registry import person


def plan_for(
    target: AnyTarget, release: Release, *, seconds: int | None, keep_minutes: int | None, **options: Any
) -> Plan:
    """By what was deployed, where nothing else is said."""
    if isinstance(target, ClusterTarget):
        usual_keep, usual_seconds = keep_of(release), startup_seconds_of(release)
    else:
        usual_keep = timedelta(minutes=LocalSpec.model_validate(release.spec).keep_minutes)
        usual_seconds = LOCAL_STARTUP_SECONDS
    keep = usual_keep if keep_minutes is None else timedelta(minutes=keep_minutes)
    return Plan(seconds=seconds or usual_seconds, keep=keep, **options)


def roll_back(
    out: Output, target: AnyTarget, name: str, *, version: int | None, reason: str, seconds: int | None,
    keep_minutes: int | None, is_reconnecting: bool,
) -> None:  # fmt: skip
    """Without a word to the registry. Raises NotFound, RolloutFailed, Overtaken."""
    held = target.read(name)
    if held is None:
        raise unknown(target, name)
    release = previous_release(held.record, version=version, by=person(), reason=reason)
    plan = plan_for(target, release, seconds=seconds, keep_minutes=keep_minutes, leaves=True,
                    is_reconnecting=is_reconnecting)  # fmt: skip
    outcome = roll_out(target, name, release, plan, say=out.say)
    out.record({"deployment": name, "state": outcome.kind, **report(target, name, release, outcome)})
    active = held.record.active
    if active.follows is not None and outcome.kind == "switched":
        out.hint(
            f"{active.follows} in the registry still names version {active.pinned.version}; no sync goes back to it. "
            f"`lapactl promote {active.pinned.model}/{release.pinned.version} --back` says so there, too"
        )


def sync_once(
    out: Output,
    target: AnyTarget,
    names: list[str],
    find: Finder,
    *,
    seconds: int | None,
    keep_minutes: int | None,
    is_brief: bool = False,
) -> None:
    """Each deployment, whatever becomes of the others; `is_brief` tells only what was done. Raises the last error when
    all were looked at."""
    failure: Exception | None = None
    rows = []
    for name in names:
        try:
            rows.append(_sync(out, target, name, find, seconds=seconds, keep_minutes=keep_minutes))
        except ClusterError as error:
            failure = error
            rows.append({"deployment": name, "did": "failed", "version": None, "state": None, "reason": str(error)})
            if len(names) > 1:
                out.warn(f"{name}: {error}")
    told = [row for row in rows if row["did"] != "unchanged"] if is_brief else rows
    if told or not is_brief:
        out.rows(told, columns=["deployment", "did", "version", "state", "reason"])
    unasked = [row for row in rows if row["state"] == "unknown"]
    if failure is None and unasked:
        reason = unasked[0]["reason"]
        kind = NotRegistered if isinstance(reason, Absent) else TrackingError
        failure = kind(f"what should run is not known: {reason} What runs was left as it is.")
    if failure is not None:
        raise failure


def watch(out: Output, look: Callable[[], None], *, seconds: float) -> None:
    """Look again and again, whatever goes wrong; until the process is stopped."""
    while True:
        try:
            look()
        except (ClusterError, TrackingError) as error:
            out.warn(str(error))
        sleep(seconds)


def prune_all(out: Output, target: AnyTarget, names: list[str]) -> None:
    rows = []
    for name in names:
        held = target.read(name)
        seconds = plan_for(target, held.record.active, seconds=None, keep_minutes=None).seconds if held else 1800
        gone = prune(target, name, older_than=timedelta(seconds=2 * seconds))
        rows += [{"deployment": name, "removed": release} for release in gone]
    out.rows(rows, columns=["deployment", "removed"])


def require(target: AnyTarget, name: str) -> None:
    """Raises NotFound; what a first deployment left half-made is there, too."""
    if name not in target.names():
        raise unknown(target, name)


def delete(out: Output, target: AnyTarget, name: str) -> None:
    """Raises NotFound."""
    require(target, name)
    target.remove(name)
    out.record({"deployment": name, "state": "deleted"})


def _sync(
    out: Output, target: AnyTarget, name: str, find: Finder, *, seconds: int | None, keep_minutes: int | None
) -> dict[str, Any]:
    found = standing(target, name, find)
    plan = plan_for(target, found.record.active, seconds=seconds, keep_minutes=keep_minutes)
    outcome: Outcome = sync(target, name, found, plan, by=person(), say=out.say)
    after = (outcome.record or found.record).active
    return {
        "deployment": name,
        "did": outcome.kind,
        "version": after.pinned.version,
        "state": "in-sync" if outcome.kind == "switched" else found.state,
        "reason": found.words,
    }
