"""What Kueue says about a job that waits."""

from lapa_k8s.base import Manifest
from lapa_k8s.words import Diagnosis, first_sentence

_REASONS = {
    "WaitingForQuota": ("its quota is in use", "wait, or see who is ahead: lapactl jobs list"),
    "ExceedsMaxQuota": (
        "it asks for more than the queue can ever give",
        "ask for fewer --nodes, or for another --queue",
    ),
    "NoMatchingFlavor": (
        "none of the queue's resource flavors fits its nodes",
        "check gpu_node.node_selector and tolerations in the cluster profile, or use another --queue",
    ),
    "TopologyPlacementFailed": (
        "its pods cannot be placed as close together as it asks",
        "set scheduling.topology.strictness=preferred, or wait",
    ),
    "WaitingForPreemptedWorkloads": ("jobs of lower priority are making room for it", "wait some minutes"),
    "WaitingForPodsReady": ("an admitted job has to start its pods first", "wait, or ask for that job's pods"),
    "Misconfigured": ("the queue is not set up", "ask the platform team: kubectl describe localqueue"),
    "Inadmissible": ("the queue cannot admit it", "ask the platform team: kubectl describe localqueue"),
    "Suspended": ("the queue is stopped", "ask the platform team"),
}
_EVICTIONS = {
    "Preempted": "it was preempted by a job of higher priority",
    "PodsReadyTimeout": "its pods did not start in time",
    "ClusterQueueStopped": "its queue was stopped",
    "Deactivated": "it was deactivated",
}


def explain_workload(workload: Manifest | None, *, queue: str, position: int | None) -> Diagnosis:
    """The reason a workload has no quota, with its place in the queue."""
    if workload is None:
        return Diagnosis(
            f"it waits for queue '{queue}', and Kueue has no record of it: Kueue does not run, or may not be asked",
            f"check that the queue exists: kubectl get localqueue {queue}",
        )
    if (workload.get("spec") or {}).get("active") is False:
        return Diagnosis(
            "Kueue has deactivated it: it was suspended, or its pods failed to start too often",
            f"lapactl jobs resume {workload['metadata']['ownerReferences'][0]['name']}",
        )
    place = f", {position}. in line" if position else ""
    conditions = {item["type"]: item for item in (workload.get("status") or {}).get("conditions") or []}
    quota = conditions.get("QuotaReserved") or {}
    reason, message = str(quota.get("reason", "")), str(quota.get("message", ""))
    again = ""
    evicted = conditions.get("Evicted") or {}
    if evicted.get("status") == "True":
        again = f"; before, {_EVICTIONS.get(str(evicted.get('reason')), first_sentence(str(evicted.get('message'))))}"
    if quota.get("status") == "True":
        return Diagnosis(f"queue '{queue}' has admitted it, and it is being started{again}", "ask again in a minute")
    words, remedy = _explain(reason, message)
    return Diagnosis(f"it waits in queue '{queue}'{place}: {words}{again}", remedy)


def _explain(reason: str, message: str) -> tuple[str, str]:
    if reason in _REASONS:
        words, remedy = _REASONS[reason]
        return (f"{words} ({first_sentence(message)})" if message else words, remedy)
    # Kueue before 0.19 gives one reason for all of these, and tells them apart in words.
    if "LocalQueue" in message and "doesn't exist" in message:
        return first_sentence(message), "check --queue: kubectl get localqueue"
    if "maximum capacity" in message or "exceeds" in message:
        return f"{_REASONS['ExceedsMaxQuota'][0]} ({first_sentence(message)})", _REASONS["ExceedsMaxQuota"][1]
    if "insufficient" in message:
        return f"{_REASONS['WaitingForQuota'][0]} ({first_sentence(message)})", _REASONS["WaitingForQuota"][1]
    return first_sentence(message) or "Kueue has not looked at it yet", "ask again in a minute"
