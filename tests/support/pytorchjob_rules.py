"""What Kubeflow's training operator 1.9 makes of a PyTorchJob and says about it; pure.

The rules are those of kubeflow/trainer, branch release-1.9 (pkg/controller.v1/pytorch and /common, pkg/core), for jobs
of workers with an elastic policy, which are all that `lapactl` submits.
"""

from copy import deepcopy
from datetime import datetime
from typing import Any

from lapa_k8s.base import Manifest
from lapa_k8s.kinds import PYTORCHJOB

LABELS = "training.kubeflow.org"
CONTAINER, PORT_NAME, PORT = "pytorch", "pytorchjob-port", 23456


def worker_environment(job: Manifest) -> list[Manifest]:
    """What the operator adds to the container of every worker."""
    spec, elastic = job["spec"], job["spec"]["elasticPolicy"]
    replicas = spec["pytorchReplicaSpecs"]["Worker"]["replicas"]
    least, most = elastic.get("minReplicas", replicas), elastic.get("maxReplicas", replicas)
    found = {
        "PYTHONUNBUFFERED": "1",
        "PET_NPROC_PER_NODE": spec.get("nprocPerNode", "auto"),
        "PET_RDZV_ENDPOINT": f"{job['metadata']['name']}-worker-0:{elastic.get('rdzvPort', PORT)}",
        "PET_RDZV_BACKEND": elastic.get("rdzvBackend", "c10d"),
        "PET_NNODES": f"{least}:{most}",
    }
    if "maxRestarts" in elastic:
        found["PET_MAX_RESTARTS"] = str(elastic["maxRestarts"])
    if "rdzvId" in elastic:
        found["PET_RDZV_ID"] = elastic["rdzvId"]
    if elastic.get("rdzvConf"):
        found["PET_RDZV_CONF"] = ",".join(f"{item['key']}={item['value']}" for item in elastic["rdzvConf"])
    return [{"name": name, "value": value} for name, value in found.items()]


def worker_pod(job: Manifest, index: int) -> Manifest:
    """The pod of one worker."""
    replica = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    template = deepcopy(replica["template"])
    metadata = template.setdefault("metadata", {})
    role = {f"{LABELS}/job-role": "master"} if index == 0 else {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **_worker_labels(job, index), **role}
    policy = replica.get("restartPolicy", "OnFailure")
    template["spec"]["restartPolicy"] = "Never" if policy == "ExitCode" else policy
    for container in template["spec"]["containers"]:
        container["env"] = [*(container.get("env") or []), *worker_environment(job)]
        ports = container.setdefault("ports", [])
        if container["name"] == CONTAINER and all(port.get("name") != PORT_NAME for port in ports):
            ports.append({"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, **_owned(job, index)},
        "spec": template["spec"],
    }


def worker_service(job: Manifest, index: int) -> Manifest:
    """The headless Service that gives a worker its name."""
    labels = _worker_labels(job, index)
    ports = [{"name": PORT_NAME, "port": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"labels": labels, **_owned(job, index)},
        "spec": {"clusterIP": "None", "selector": labels, "ports": ports},
    }


def next_status(job: Manifest, pods: list[Manifest], now: str) -> Manifest:
    """The job's status after a look at its pods."""
    status: Manifest = deepcopy(job.get("status") or {})
    name, policy = job["metadata"]["name"], job["spec"].get("runPolicy") or {}
    _condition(status, "Created", "True", "Created", f"PyTorchJob {name} is created.", now)
    if is_finished(status):
        if _is_true(status, "Succeeded"):
            workers = status["replicaStatuses"]["Worker"]
            workers |= {"succeeded": workers["succeeded"] + workers["active"], "active": 0}
        return status
    if policy.get("suspend"):
        status["replicaStatuses"] = {"Worker": _counts([])}
        words = f"PyTorchJob {name} is suspended."
        if _is_true(status, "Running"):
            _condition(status, "Running", "False", "Suspended", words, now)
        _condition(status, "Suspended", "True", "Suspended", words, now)
        return status
    if _is_true(status, "Suspended"):
        _condition(status, "Suspended", "False", "Resumed", f"PyTorchJob {name} is resumed.", now)
        status["startTime"] = now
    status.setdefault("startTime", now)
    status["replicaStatuses"] = {"Worker": _counts(pods)}
    if (failure := _limit(job, pods, status["startTime"], now)) is not None:
        _condition(status, "Failed", "True", "Failed", failure, now)
        status["completionTime"] = now
        return status
    _tell_of_workers(job, status, now)
    return status


def pods_to_delete(job: Manifest, status: Manifest, pods: list[Manifest]) -> list[Manifest]:
    """Those that a finished or suspended job gives up, and failed ones, which are made anew."""
    policy = job["spec"].get("runPolicy") or {}
    if is_finished(status):
        kept = {"None": pods, "Running": [pod for pod in pods if _phase(pod) in ("Succeeded", "Failed")], "All": []}
        return [pod for pod in pods if pod not in kept[policy.get("cleanPodPolicy", "None")]]
    if policy.get("suspend"):
        return pods
    return [pod for pod in pods if _phase(pod) == "Failed" and pod["spec"]["restartPolicy"] != "Never"]


def is_finished(status: Manifest) -> bool:
    return _is_true(status, "Succeeded") or _is_true(status, "Failed")


def _tell_of_workers(job: Manifest, status: Manifest, now: str) -> None:
    """Conditions that follow from the counts of workers."""
    name, worker = job["metadata"]["name"], job["spec"]["pytorchReplicaSpecs"]["Worker"]
    counts = status["replicaStatuses"]["Worker"]
    place = f"PyTorchJob {job['metadata']['namespace']}/{name}"
    if counts["succeeded"] > 0:  # with an elastic policy one is enough
        _condition(status, "Succeeded", "True", "Succeeded", f"{place} successfully completed.", now)
        status["completionTime"] = now
    elif counts["active"] > 0:
        _condition(status, "Running", "True", "Running", f"{place} is running.", now)
    if counts["failed"] > 0 and worker["replicas"] > counts["succeeded"] + counts["active"]:
        failed = f"because {counts['failed']} Worker replica(s) failed."
        if worker.get("restartPolicy", "OnFailure") == "Never":
            _condition(status, "Failed", "True", "Failed", f"PyTorchJob {name} is failed {failed}", now)
            status["completionTime"] = now
        else:
            _condition(status, "Restarting", "True", "Restarting", f"PyTorchJob {name} is restarting {failed}", now)


def _limit(job: Manifest, pods: list[Manifest], started: str, now: str) -> str | None:
    """The limit that the job has passed, in the operator's words."""
    name, policy = job["metadata"]["name"], job["spec"].get("runPolicy") or {}
    restarts = sum(
        status["restartCount"]
        for pod in pods
        if _phase(pod) == "Running"
        for status in pod["status"].get("containerStatuses") or []
    )
    if (limit := policy.get("backoffLimit")) is not None and restarts >= max(limit, 1):
        return f"Job {name} has failed because it has reached the specified backoff limit"
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(started)).total_seconds()
    if (deadline := policy.get("activeDeadlineSeconds")) is not None and seconds >= deadline:
        return f"Job {name} has failed because it was active longer than specified deadline"
    return None


def _counts(pods: list[Manifest]) -> dict[str, int]:
    phases = ["Failed" if _is_going(pod) and _phase(pod) == "Running" else _phase(pod) for pod in pods]
    return {"active": phases.count("Running"), "succeeded": phases.count("Succeeded"), "failed": phases.count("Failed")}


def _condition(status: Manifest, kind: str, value: str, reason: str, message: str, now: str) -> None:
    """Sets a condition; Running and Restarting push each other out, and the end makes Running false."""
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    words = {"reason": f"PyTorchJob{reason}", "message": message}
    if any(
        item["type"] == kind and (item["status"], item["reason"]) == (value, words["reason"]) for item in conditions
    ):
        return
    opposite = {"Running": "Restarting", "Restarting": "Running"}.get(kind)
    kept = [deepcopy(item) for item in conditions if item["type"] not in (kind, opposite)]
    for item in kept:
        if item["type"] == "Running" and kind in ("Succeeded", "Failed"):
            item["status"] = "False"
    made = {"type": kind, "status": value, **words, "lastUpdateTime": now, "lastTransitionTime": now}
    status["conditions"] = [*kept, made]


def _is_true(status: Manifest, kind: str) -> bool:
    return any(item["type"] == kind and item["status"] == "True" for item in status.get("conditions") or [])


def worker_name(job: Manifest, index: int) -> str:
    return f"{job['metadata']['name']}-worker-{index}"


def _worker_labels(job: Manifest, index: int) -> dict[str, str]:
    found = {"operator-name": "pytorchjob-controller", "job-name": job["metadata"]["name"], "replica-type": "worker",
             "replica-index": str(index)}  # fmt: skip
    return {f"{LABELS}/{name}": value for name, value in found.items()}


def _owned(job: Manifest, index: int) -> Manifest:
    metadata = job["metadata"]
    owner = {"apiVersion": PYTORCHJOB.api_version, "kind": PYTORCHJOB.kind, "name": metadata["name"],
             "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    return {"name": worker_name(job, index), "namespace": metadata["namespace"], "ownerReferences": [owner]}


def owner_of(pod: Manifest) -> str:
    return str((pod["metadata"].get("ownerReferences") or [{}])[0].get("uid"))


def _phase(pod: Manifest) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _is_going(pod: Manifest) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
