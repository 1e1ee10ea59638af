"""Stopping, pausing and clearing away jobs."""

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError, NotFound
from lapa_k8s.kinds import CONFIG_MAP, TRAINJOB, WORKLOADS, kind_of, suspension
from lapa_k8s.names import JOB_LABEL, MANAGED_SELECTOR, QUEUE_LABEL
from lapa_k8s.records import age_seconds, find_job, gather, list_jobs
from lapa_k8s.states import FINAL_STATES

ABANDONED_SECONDS = 3600
"""A ConfigMap without a job is a submission that broke off, when it is older than this."""


def cancel(cluster: Cluster, namespace: str, name: str) -> Manifest:
    """Delete a job; its pods get their grace period to save, its ConfigMap goes with it."""
    job = find_job(cluster, namespace, name)
    cluster.delete(kind_of(job), namespace, name)
    return job


def set_suspended(cluster: Cluster, namespace: str, name: str, *, is_suspended: bool) -> Manifest:
    """Suspend or resume. Raises ClusterError for a job that has ended.

    A queued job is Kueue's to start and stop: it would undo a change of the job, so its Workload is (de)activated.
    """
    facts = gather(cluster, namespace, name)
    if facts.state.state in FINAL_STATES:
        raise ClusterError(f"job '{name}' has {facts.state.state}; only a job that goes on can be suspended or resumed")
    if QUEUE_LABEL in (facts.job["metadata"].get("labels") or {}):
        workload = facts.workload
        if workload is None:
            raise NotFound(
                f"Kueue has no record of job '{name}' yet, or you may not read its Workloads; try again in a minute, "
                f"or stop it with `lapactl jobs cancel {name}`"
            )
        kind = next(kind for kind in WORKLOADS if kind.api_version == workload["apiVersion"])
        cluster.patch(kind, namespace, workload["metadata"]["name"], {"spec": {"active": not is_suspended}})
        return facts.job
    kind = kind_of(facts.job)
    cluster.patch(kind, namespace, name, suspension(kind, is_suspended=is_suspended))
    return facts.job


def removable(cluster: Cluster, namespace: str, *, older_than_seconds: int) -> list[Manifest]:
    """Finished TrainJobs that are older, and ConfigMaps of broken-off submissions. Other jobs have a time to live."""
    found = list_jobs(cluster, namespace)
    finished = [
        item.job
        for item in found
        if item.job["kind"] == TRAINJOB.kind and item.state.state in FINAL_STATES
        and (age_seconds(item.job["metadata"].get("creationTimestamp")) or 0) >= older_than_seconds
    ]  # fmt: skip
    names = {item.job["metadata"]["name"] for item in found}
    config_maps = cluster.select(CONFIG_MAP, namespace, labels=f"{MANAGED_SELECTOR},{JOB_LABEL}")
    abandoned = [
        item
        for item in config_maps
        if not item["metadata"].get("ownerReferences") and item["metadata"]["name"] not in names
        and (age_seconds(item["metadata"].get("creationTimestamp")) or 0) >= ABANDONED_SECONDS
    ]  # fmt: skip
    return [*finished, *abandoned]


def remove(cluster: Cluster, namespace: str, item: Manifest) -> None:
    kind = CONFIG_MAP if item["kind"] == CONFIG_MAP.kind else kind_of(item)
    cluster.delete(kind, namespace, item["metadata"]["name"])
