"""`lapactl deploy status` and `history`."""

from typing import Any, assert_never

from lapa_k8s.errors import NotFound
from lapa_k8s.rollout_cluster import ClusterTarget
from lapa_k8s.rollout_sync import Finder, Standing, describe, standing
from lapactl.deploy_local import LocalTarget
from lapactl.deploy_places import AnyTarget, options_of
from lapactl.output import Output

COLUMNS = ["deployment", "state", "desired", "actual", "health", "since", "by"]


def deployed(target: AnyTarget) -> list[str]:
    """Deployments that have a record; others are still being made."""
    return [name for name in target.names() if target.read(name) is not None]


def unknown(target: AnyTarget, name: str) -> NotFound:
    """That a deployment is not at this place, and which are."""
    known = ", ".join(deployed(target)) or "none"
    return NotFound(f"there is no deployment '{name}' {_where(target)}; there is: {known}")


def print_status(out: Output, target: AnyTarget, names: list[str], find: Finder) -> list[Standing]:
    found = [(name, standing(target, name, find)) for name in names]
    rows = [{**describe(name, one, place=target.place), "address": target.address(name)} for name, one in found]
    if out.is_json:
        out.json(rows)
        return [one for _, one in found]
    if not rows:
        out.say(f"nothing is deployed {_where(target)}.")
    else:
        out.table([_short(row) for row in rows], columns=COLUMNS)
    for row in rows:
        _explain(out, row, options_of(target))
    return [one for _, one in found]


def print_history(out: Output, target: AnyTarget, name: str) -> None:
    """Newest first."""
    held = target.read(name)
    if held is None:
        raise unknown(target, name)
    record = held.record
    rows: list[dict[str, Any]] = [
        {
            "number": item.number, "version": item.pinned.version, "digest": item.pinned.digest, "kind": item.kind,
            "at": item.at, "by": item.by, "reason": item.reason, "release": item.name, "url": item.pinned.url,
            "state": _state(record.active.number == item.number, record.kept.get(item.name),
                            record.is_rejected(item.pinned.digest)),
        }
        for item in reversed(record.history)
    ]  # fmt: skip
    if out.is_json:
        out.json(rows)
        return
    shown = [{**row, "digest": row["digest"][:12]} for row in rows]
    out.table(shown, columns=["number", "version", "digest", "kind", "state", "at", "by", "reason"])


def _state(is_active: bool, kept_until: str | None, is_rejected: bool) -> str:
    words = ["active"] if is_active else []
    words += [f"warm until {kept_until}"] if kept_until and not is_active else []
    words += ["rejected"] if is_rejected else []
    return ", ".join(words)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    desired, actual = row["desired"], row["actual"]
    return {
        **row,
        "desired": f"{row['follows']}: {desired['version']}" if desired else ("-" if row["follows"] is None else "?"),
        "actual": f"{actual['version']} ({actual['digest'][:12]})",
        "health": f"{row['health']} {row['ready']}/{row['wanted']}",
        "since": actual["since"],
        "by": actual["by"],
    }


def _where(target: AnyTarget) -> str:
    match target:
        case LocalTarget():
            return f"on this machine ({target.state})"
        case ClusterTarget():
            return f"in namespace '{target.place['namespace']}' of the cluster"
        case _:
            assert_never(target)


def _explain(out: Output, row: dict[str, Any], options: str) -> None:
    name = row["deployment"]
    if row["health"] != "ready":
        out.warn(f"{name}: {row['health_reason']}")
    match row["state"]:
        case "drift":
            out.hint(f"{name}: {row['reason']}; `lapactl deploy sync {name}{options}` closes it")
        case "held":
            out.hint(f"{name}: {row['reason']}")
        case "unknown":
            out.warn(f"{name}: what should run is not known: {row['reason']}")
