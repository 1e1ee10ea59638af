"""Jobs, pods, events and Workloads as a cluster would show them."""

from typing import Any

from job_specs import job_spec

from lapa_k8s.rendering.manifests import render

NAME = job_spec().name


def job(operator: str = "pytorchjob", *, conditions: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """A job of two nodes with conditions that are true, by type, and their messages."""
    nodes = 1 if operator == "job" else 2
    manifest = render(job_spec(operator=operator, nodes=nodes, **changes)).job
    manifest["metadata"] |= {"uid": "job-uid", "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1"}
    found = [{"type": kind, "status": "True", "message": message} for kind, message in (conditions or {}).items()]
    return {**manifest, "status": {"conditions": found}} if found else manifest


def pod(
    index: int = 0,
    *,
    phase: str = "Running",
    running: bool = True,
    waiting: tuple[str, str] | None = None,
    ended: dict[str, Any] | None = None,
    last_ended: dict[str, Any] | None = None,
    restarts: int = 0,
    unschedulable: str | None = None,
) -> dict[str, Any]:
    """A worker."""
    state: dict[str, Any] = {"running": {}} if running and not waiting and not ended else {}
    if waiting:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    if ended:
        state = {"terminated": ended}
    conditions = []
    if unschedulable is not None:
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}]
    last_state = {"terminated": last_ended} if last_ended else {}
    status = {"name": "pytorch", "restartCount": restarts, "state": state, "lastState": last_state}
    statuses = [] if unschedulable is not None else [status]
    return {
        "metadata": {"name": f"{NAME}-worker-{index}", "namespace": "team", "uid": f"pod-{index}"},
        "spec": {
            "containers": [{"name": "pytorch", "image": "registry.example/lapa-train:1"}],
            "nodeName": f"node{index}",
        },
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses},
    }


def pending_pod(index: int, message: str) -> dict[str, Any]:
    return pod(index, phase="Pending", unschedulable=message)


def waiting_pod(index: int, reason: str, message: str) -> dict[str, Any]:
    return pod(index, phase="Pending", waiting=(reason, message))


def event(reason: str, message: str, uid: str = "job-uid") -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "involvedObject": {"uid": uid},
        "lastTimestamp": "2026-01-01T00:00:01Z",
    }


def workload(reason: str, message: str = "", *, reserved: str = "False", evicted: str | None = None) -> dict[str, Any]:
    conditions = [{"type": "QuotaReserved", "status": reserved, "reason": reason, "message": message}]
    if evicted:
        conditions.append({"type": "Evicted", "status": "True", "reason": evicted, "message": ""})
    owner = {"uid": "job-uid", "name": NAME}
    return {"metadata": {"name": "w", "ownerReferences": [owner]}, "spec": {}, "status": {"conditions": conditions}}
