"""A STAND-IN for Kubeflow's training operator, version 1.9: makes pods of PyTorchJobs on a real API server, and says
in the job's status what becomes of them. `pytorchjob_rules` has its rules.

It does not run the pods. Who does is the seam, and it is Kubernetes' own: a kubelet, or `process_node.ProcessNode`,
which runs them as processes. Operator and node know each other by the pods alone.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pytorchjob_rules import (
    LABELS,
    is_finished,
    next_status,
    owner_of,
    pods_to_delete,
    worker_name,
    worker_pod,
    worker_service,
)

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError, NameTaken, NotFound
from lapa_k8s.kinds import EVENT, POD, PYTORCHJOB, Kind

SERVICE = Kind("v1", "Service", "services")
LOOK_SECONDS = 0.5

ChangePod = Callable[[Manifest], Manifest | None]
"""Changes a pod before it is made, as an admission webhook would; None for "not yet"."""


class TrainingOperator:
    """Looks after the PyTorchJobs of a namespace."""

    def __init__(self, cluster: Cluster, namespace: str, change_pod: ChangePod = lambda pod: pod) -> None:
        self._cluster, self._namespace, self._change = cluster, namespace, change_pod

    def work(self) -> None:
        """One look at every job."""
        jobs = self._cluster.select(PYTORCHJOB, self._namespace)
        every = self._cluster.select(POD, self._namespace, labels=f"{LABELS}/operator-name=pytorchjob-controller")
        for job in jobs:
            if not job["metadata"].get("deletionTimestamp"):
                self._reconcile(job, [pod for pod in every if owner_of(pod) == job["metadata"]["uid"]])
        known = {job["metadata"]["uid"] for job in jobs}
        for pod in every:  # the garbage collector's part, which no server here has
            if owner_of(pod) not in known:
                self._delete(pod)

    def _reconcile(self, job: Manifest, pods: list[Manifest]) -> None:
        status = next_status(job, pods, _now())
        policy = job["spec"].get("runPolicy") or {}
        for pod in pods_to_delete(job, status, pods):
            self._delete(pod)
        if not is_finished(status) and not policy.get("suspend"):
            there = {pod["metadata"]["name"] for pod in pods}
            for index in range(job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"]):
                if worker_name(job, index) not in there:
                    self._create(job, index)
        if status != job.get("status"):
            self._cluster.patch(PYTORCHJOB, self._namespace, job["metadata"]["name"], {"status": status}, part="status")
            for condition in status["conditions"]:
                if condition not in ((job.get("status") or {}).get("conditions") or []):
                    self._tell(job, condition["reason"], condition["message"])

    def _create(self, job: Manifest, index: int) -> None:
        pod = self._change(worker_pod(job, index))
        if pod is None:
            return
        for kind, body in ((SERVICE, worker_service(job, index)), (POD, pod)):
            try:
                self._cluster.create(kind, self._namespace, body)
            except NameTaken:  # it is there already, or on its way out
                continue
            except ClusterError as error:
                self._tell(job, f"FailedCreate{kind.kind}", f"Error creating: {error}", is_warning=True)
                return

    def _delete(self, pod: Manifest) -> None:
        if not pod["metadata"].get("deletionTimestamp"):
            for kind in (POD, SERVICE):
                self._cluster.delete(kind, self._namespace, pod["metadata"]["name"])

    def _tell(self, job: Manifest, reason: str, message: str, *, is_warning: bool = False) -> None:
        metadata = job["metadata"]
        about = {"apiVersion": PYTORCHJOB.api_version, "kind": PYTORCHJOB.kind, "namespace": metadata["namespace"],
                 "name": metadata["name"], "uid": metadata["uid"]}  # fmt: skip
        event = {
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": "Warning" if is_warning else "Normal",
            "firstTimestamp": _now(),
            "lastTimestamp": _now(),
            "source": {"component": "pytorchjob-controller"},
        }
        self._cluster.create(EVENT, metadata["namespace"], {"apiVersion": "v1", "kind": "Event", **event})


@contextmanager
def running_training_operator(
    cluster: Cluster, namespace: str, change_pod: ChangePod = lambda pod: pod
) -> Iterator[TrainingOperator]:
    """Looks at the jobs twice a second, until the block ends. What it fails with is raised there."""
    operator = TrainingOperator(cluster, namespace, change_pod)
    with running_loop(operator.work):
        yield operator


@contextmanager
def running_loop(work: Callable[[], None]) -> Iterator[None]:
    """Calls a function again and again in a thread of its own."""
    stop, failed = threading.Event(), list[BaseException]()

    def loop() -> None:
        while not stop.wait(LOOK_SECONDS):
            try:
                work()
            except NotFound:  # what it looked at was deleted under its hands
                continue
            except BaseException as error:
                failed.append(error)
                return

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)
    if failed:
        raise failed[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
