"""The kinds of objects the control plane deals with, and the shape that differs between them."""

from typing import Any, NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.parts import Operator


class Kind(NamedTuple):
    """How the API calls a kind."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        """URL path of the collection, of one object, or of a part of it such as `log`."""
        root = f"/api/{self.api_version}" if self.api_version == "v1" else f"/apis/{self.api_version}"
        return "/".join(item for item in (root, "namespaces", namespace, self.plural, name, part) if item)


PYTORCHJOB = Kind("kubeflow.org/v1", "PyTorchJob", "pytorchjobs")
TRAINJOB = Kind("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs")
JOB = Kind("batch/v1", "Job", "jobs")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
LOCAL_QUEUES = (
    Kind("kueue.x-k8s.io/v1beta2", "LocalQueue", "localqueues"),
    Kind("kueue.x-k8s.io/v1beta1", "LocalQueue", "localqueues"),
)
WORKLOADS = (
    Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads"),
    Kind("kueue.x-k8s.io/v1beta1", "Workload", "workloads"),
)
"""Kueue's, newest first."""

JOB_KINDS: dict[Operator, Kind] = {"pytorchjob": PYTORCHJOB, "trainjob": TRAINJOB, "job": JOB}
OPERATOR_NAMES = {
    PYTORCHJOB.kind: "Kubeflow training-operator (v1)",
    TRAINJOB.kind: "Kubeflow Trainer (v2)",
    JOB.kind: "Kubernetes",
}


def kind_of(manifest: Manifest) -> Kind:
    """The kind of a job's manifest."""
    return next(kind for kind in JOB_KINDS.values() if kind.kind == manifest["kind"])


def is_suspended(job: Manifest) -> bool:
    spec: dict[str, Any] = job.get("spec") or {}
    holder = (spec.get("runPolicy") or {}) if job["kind"] == PYTORCHJOB.kind else spec
    return bool(holder.get("suspend"))


def suspension(kind: Kind, *, is_suspended: bool) -> Manifest:
    """The merge patch that suspends or resumes a job."""
    change = {"suspend": is_suspended}
    return {"spec": {"runPolicy": change} if kind == PYTORCHJOB else change}


def nodes_of(job: Manifest) -> int:
    spec: dict[str, Any] = job.get("spec") or {}
    match job["kind"]:
        case PYTORCHJOB.kind:
            replicas = spec.get("pytorchReplicaSpecs") or {}
            return sum(int(role.get("replicas", 1)) for role in replicas.values())
        case TRAINJOB.kind:
            return int((spec.get("trainer") or {}).get("numNodes", 1))
        case _:
            return int(spec.get("completions") or 1)
