"""What `lapactl jobs` prints about jobs."""

from itertools import islice
from typing import Any

from lapa.errors import ConfigError
from lapa_k8s.base import Manifest
from lapa_k8s.diagnosis import Facts, diagnose
from lapa_k8s.digest import digest_of
from lapa_k8s.following import read_logs
from lapa_k8s.pipeline_progress import (
    StageProgress,
    current_stage,
    is_pipeline,
    progress_of,
    states_of,
    told,
    with_progress,
)
from lapa_k8s.records import find_job, gather, job_pods, list_jobs, record_of
from lapa_k8s.states import State, container_statuses, ends, state_of
from lapa_k8s.words import Diagnosis
from lapactl.jobs_target import Target, with_options
from lapactl.output import Output, duration

MAX_DIGEST_LINES = 20_000
"""Of each pod, the last ones."""


def print_jobs(out: Output, target: Target, *, stage: str | None, state: str | None) -> None:
    states = [str(item) for item in State]
    if state is not None and state not in states:
        raise ConfigError(f"'{state}' is not a state; valid: {', '.join(states)}")
    # All of them, since a pipeline is told by the jobs of its stages.
    found = with_progress(list_jobs(target.cluster, target.namespace))
    wanted = [item for item in found if state in (None, str(item.state.state))]
    rows = [row for row in (record_of(*item) for item in wanted) if stage in (None, row["stage"])]
    for row in rows:
        row["age"] = duration(row["age_seconds"] or 0)
    out.rows(rows, columns=["job", "state", "stage", "nodes", "queue", "restarts", "age", "reason"])
    if not rows:
        out.hint(f"no jobs in namespace '{target.namespace}'; `lapactl submit STAGE{target.options}` makes one")


def print_job(out: Output, target: Target, name: str, *, has_events: bool) -> None:
    facts = gather(target.cluster, target.namespace, name)
    progress = _progress(target, facts)
    record = record_of(facts.job, told(facts.state, progress), list(facts.pods))
    stages = {"stages": [item._asdict() for item in progress]} if progress else {}
    pods = [_pod_row(pod) for pod in facts.pods]
    events = [_event_row(event) for event in facts.events] if has_events else []
    if out.is_json:
        out.json({**record, **stages, "pods": pods, **({"events": events} if has_events else {})})
        return
    out.record(record)
    if stages:
        out.table(stages["stages"], columns=["stage", "job", "state"])
    if pods:
        out.table(pods, columns=["pod", "node", "phase", "restarts", "last_exit_code"])
    if events:
        out.table(events, columns=["time", "object", "reason", "message"])
    if facts.state.state not in (State.RUNNING, State.SUCCEEDED):
        out.hint(f"`lapactl jobs why {name}{target.options}` says what it waits for")


def print_why(out: Output, target: Target, name: str) -> None:
    facts = gather(target.cluster, target.namespace, name)
    found = diagnose(facts)
    at = current_stage(_progress(target, facts))
    if at is not None and at.job is not None and facts.state.state in (State.RUNNING, State.FAILED):
        # A pipeline waits for its stage: what the stage waits for is the reason.
        of_stage = diagnose(gather(target.cluster, target.namespace, at.job))
        found = Diagnosis(f"it is at stage {at.stage}, job {at.job}: {of_stage.why}", of_stage.remedy)
    found = found._replace(remedy=with_options(found.remedy, target.options))
    if out.is_json:
        out.json({"job": name, "state": str(facts.state.state), "why": found.why, "remedy": found.remedy or None})
        return
    out.text(f"{found.why}.")
    if found.remedy:
        out.text(f"Do: {found.remedy}")


def print_digest(out: Output, target: Target, name: str) -> None:
    job = find_job(target.cluster, target.namespace, name)
    pods = job_pods(target.cluster, target.namespace, name)
    has_failed = state_of(job, pods).state is State.FAILED
    has_restarted = bool(ends(pods)) and all(_is_running(pod) for pod in pods)
    lines = read_logs(target.cluster, target.namespace, name, tail=MAX_DIGEST_LINES, is_previous=has_restarted)
    digest = digest_of(pods, islice(lines, MAX_DIGEST_LINES * max(len(pods), 1)), has_failed=has_failed)
    record = {"job": name, **digest._asdict(), "endings": [ending._asdict() for ending in digest.endings]}
    if out.is_json:
        out.json(record)
        return
    out.record({key: record[key] for key in ("job", "rank", "pod", "kind", "error", "last_step", "remedy")})
    if digest.traceback:
        out.text("\n".join(["", *digest.traceback]))
    if digest.endings:
        out.table(record["endings"], columns=["finished", "pod", "exit_code", "meaning"])
    if not digest.endings and digest.error is None and not has_failed:
        out.hint("nothing failed as far as its pods can tell")


def _progress(target: Target, facts: Facts) -> list[StageProgress]:
    """Of a pipeline; nothing for other jobs."""
    if not is_pipeline(facts.job):
        return []
    return progress_of(facts.job, states_of(list_jobs(target.cluster, target.namespace)))


def _is_running(pod: Manifest) -> bool:
    return any((status.get("state") or {}).get("running") is not None for status in container_statuses(pod))


def _pod_row(pod: Manifest) -> dict[str, Any]:
    last = ends([pod])
    return {
        "pod": pod["metadata"]["name"],
        "node": (pod.get("spec") or {}).get("nodeName"),
        "phase": (pod.get("status") or {}).get("phase"),
        "restarts": sum(int(status.get("restartCount", 0)) for status in container_statuses(pod)),
        "last_exit_code": last[-1].exit_code if last else None,
    }


def _event_row(event: Manifest) -> dict[str, Any]:
    about = event.get("involvedObject") or {}
    return {
        "time": event.get("lastTimestamp") or event.get("eventTime"),
        "object": f"{about.get('kind')}/{about.get('name')}",
        "reason": event.get("reason"),
        "message": event.get("message"),
    }
