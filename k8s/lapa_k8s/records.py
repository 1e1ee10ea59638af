"""Finding jobs, whoever runs them, and telling about them."""

from datetime import UTC, datetime
from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.diagnosis import Facts
from lapa_k8s.errors import AccessDenied, KindNotServed, NotFound
from lapa_k8s.kinds import EVENT, JOB_KINDS, POD, WORKLOADS, Kind, nodes_of
from lapa_k8s.log_lines import node_order
from lapa_k8s.names import (
    JOB_LABEL,
    MANAGED_SELECTOR,
    PIPELINE_LABEL,
    QUEUE_LABEL,
    RUN_LABEL,
    SHAPE_ANNOTATION,
    STAGE_LABEL,
    TRACKING_ANNOTATION,
)
from lapa_k8s.states import JobState, restarts, state_of

VISIBILITY_VERSIONS = ("v1beta2", "v1beta1")


def find_job(cluster: Cluster, namespace: str, name: str) -> Manifest:
    """A job of ours of any kind. Raises NotFound."""
    for kind in JOB_KINDS.values():
        try:
            found = cluster.find(kind, namespace, name)
        except KindNotServed:
            continue
        if found is not None:
            return found
    raise NotFound(f"there is no job '{name}' in namespace '{namespace}'. `lapactl jobs list` shows the ones there are")


class Found(NamedTuple):
    """A job with what is known about it."""

    job: Manifest
    state: JobState
    pods: list[Manifest]


def list_jobs(cluster: Cluster, namespace: str, *, labels: str = "") -> list[Found]:
    """Every job of ours, or those with the labels, with its state and pods, newest first."""
    wanted = ",".join(part for part in (MANAGED_SELECTOR, labels) if part)
    jobs = [job for kind in JOB_KINDS.values() for job in _listed(cluster, kind, namespace, wanted)]
    pods: dict[str, list[Manifest]] = {}
    for pod in cluster.select(POD, namespace, labels=MANAGED_SELECTOR):
        pods.setdefault(pod["metadata"]["labels"].get(JOB_LABEL, ""), []).append(pod)
    found = [Found(job, state_of(job, own), own) for job in jobs for own in [pods.get(job["metadata"]["name"], [])]]
    return sorted(found, key=lambda item: str(item.job["metadata"].get("creationTimestamp", "")), reverse=True)


def _listed(cluster: Cluster, kind: Kind, namespace: str, labels: str) -> list[Manifest]:
    try:
        # TrainJobs and JobSets make Jobs of their own, which carry no label of ours.
        return cluster.select(kind, namespace, labels=labels)
    except KindNotServed:
        return []


def gather(cluster: Cluster, namespace: str, name: str) -> Facts:
    """All that the cluster tells about a job; what may not be read is left out."""
    job = find_job(cluster, namespace, name)
    pods = job_pods(cluster, namespace, name)
    workload = _workload_of(cluster, namespace, job)
    related = [job, *pods, *([workload] if workload else [])]
    return Facts(
        job=job,
        state=state_of(job, pods),
        pods=pods,
        events=_events_of(cluster, namespace, {item["metadata"].get("uid") for item in related}),
        workload=workload,
        position=_position(cluster, namespace, job, workload),
        age_seconds=age_seconds(job["metadata"].get("creationTimestamp")) or 0,
    )


def job_pods(cluster: Cluster, namespace: str, name: str) -> list[Manifest]:
    """The pods of a job, in node order."""
    pods = cluster.select(POD, namespace, labels=f"{JOB_LABEL}={name}")
    return sorted(pods, key=lambda pod: node_order(pod["metadata"]["name"]))


def _events_of(cluster: Cluster, namespace: str, owners: set[str | None]) -> list[Manifest]:
    """Oldest first."""
    try:
        events = cluster.select(EVENT, namespace)
    except AccessDenied:
        return []
    own = [event for event in events if (event.get("involvedObject") or {}).get("uid") in owners]
    return sorted(own, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def _workload_of(cluster: Cluster, namespace: str, job: Manifest) -> Manifest | None:
    """Kueue's record of a job; None without Kueue, and where it may not be read."""
    for kind in WORKLOADS:
        try:
            workloads = cluster.select(kind, namespace)
        except (KindNotServed, NotFound):
            continue
        except AccessDenied:
            return None
        owned = [item for item in workloads if _owns(job, item)]
        return owned[0] if owned else None
    return None


def _owns(job: Manifest, item: Manifest) -> bool:
    return any(
        owner.get("uid") == job["metadata"].get("uid") for owner in item["metadata"].get("ownerReferences") or []
    )


def _position(cluster: Cluster, namespace: str, job: Manifest, workload: Manifest | None) -> int | None:
    """Place in the queue, 1 is next; None where Kueue's visibility is off or may not be asked."""
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if workload is None or not queue:
        return None
    for version in VISIBILITY_VERSIONS:
        path = f"/apis/visibility.kueue.x-k8s.io/{version}/namespaces/{namespace}/localqueues/{queue}/pendingworkloads"
        try:
            pending = cluster.get_path(path)
        except (KindNotServed, NotFound, AccessDenied):
            continue
        for item in pending.get("items") or []:
            if item["metadata"]["name"] == workload["metadata"]["name"]:
                return int(item.get("positionInLocalQueue", 0)) + 1
    return None


def record_of(job: Manifest, state: JobState, pods: list[Manifest], *, now: datetime | None = None) -> Manifest:
    """What `lapactl jobs list` and `show` print; a stable schema."""
    metadata = job["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    created = metadata.get("creationTimestamp")
    return {
        "job": metadata["name"],
        "state": str(state.state),
        "reason": state.reason,
        "stage": labels.get(STAGE_LABEL),
        "run": labels.get(RUN_LABEL),
        "pipeline": labels.get(PIPELINE_LABEL),
        "kind": job["kind"],
        "namespace": metadata.get("namespace"),
        "nodes": nodes_of(job),
        "processes_per_node": int(annotations.get(SHAPE_ANNOTATION, 1)),
        "queue": labels.get(QUEUE_LABEL),
        "restarts": restarts(pods),
        "created": created,
        "age_seconds": age_seconds(created, now=now),
        "mlflow_run_id": annotations.get(TRACKING_ANNOTATION),
    }


def age_seconds(created: str | None, *, now: datetime | None = None) -> int | None:
    if not created:
        return None
    moment = datetime.fromisoformat(created.replace("Z", "+00:00"))
    return max(int(((now or datetime.now(UTC)) - moment).total_seconds()), 0)
