"""What every operator's pods have in common: container, volumes, placement, and the restricted Pod Security level."""

from lapa_k8s.base import Manifest
from lapa_k8s.names import JOB_LABEL, MANAGED_LABELS, RUN_LABEL, STAGE_LABEL, label_value
from lapa_k8s.parts import Images, NodeShape, Scratch, Security, Toleration
from lapa_k8s.rendering.command import command
from lapa_k8s.rendering.environment import METRICS_PORT, environment
from lapa_k8s.rendering.paths import CONFIG_FOLDER, HOME, SCRATCH
from lapa_k8s.spec import TRAINING_STAGES, JobSpec

MOUNTS = {"config": CONFIG_FOLDER, "scratch": SCRATCH, "shared-memory": "/dev/shm", "home": HOME, "tmp": "/tmp"}
METRICS = {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}
"""The chart's monitor and its NetworkPolicy know the port by this name."""
SMALL_VOLUME = "10Gi"
"""Limit of `/tmp` and of the home folder; whoever writes more is evicted before the node's disk is full."""


def pod_template(spec: JobSpec, *, container: str, restart_policy: str) -> Manifest:
    """Of a job whose pods we describe whole.

    Without a readiness probe: PyTorchJob's Services list ready pods only, and a pod that waits for its
    peers before it is ready would never be found by them.
    """
    return {
        "metadata": {"labels": pod_labels(spec), "annotations": pod_annotations(spec, container=container)},
        "spec": {
            **placement(spec.node),
            **({"priorityClassName": spec.scheduling.priority_class} if spec.scheduling.priority_class else {}),
            **accounts(spec),
            "automountServiceAccountToken": False,  # cloud identity brings its own token; ours talks to no API
            "enableServiceLinks": False,
            "restartPolicy": restart_policy,
            "terminationGracePeriodSeconds": spec.restarts.grace_seconds,
            "securityContext": pod_security(spec.security),
            "containers": [_container(spec, name=container)],
            "volumes": volumes(spec),
        },
    }


def job_labels(spec: JobSpec) -> dict[str, str]:
    """On the job, its ConfigMap and its pods alike: whoever runs the pods, these find them."""
    return {
        **MANAGED_LABELS,
        "app.kubernetes.io/component": spec.stage,
        STAGE_LABEL: spec.stage,
        RUN_LABEL: label_value(spec.run),
        JOB_LABEL: spec.name,
    }


def pod_labels(spec: JobSpec) -> dict[str, str]:
    # Kubeflow's namespaces inject a proxy that ranks cannot talk through and that keeps a finished pod alive.
    return {**job_labels(spec), "sidecar.istio.io/inject": "false"}


def pod_annotations(spec: JobSpec, *, container: str) -> dict[str, str]:
    topology = spec.scheduling.topology
    return {
        "kubectl.kubernetes.io/default-container": container,
        **({f"kueue.x-k8s.io/podset-{topology.strictness}-topology": topology.level} if topology else {}),
        **spec.annotations,
    }


def accounts(spec: JobSpec) -> Manifest:
    return {
        **({"serviceAccountName": spec.service_account} if spec.service_account else {}),
        **pull_secrets(spec.images),
    }


def pull_secrets(images: Images) -> Manifest:
    found = [{"name": name} for name in images.pull_secrets]
    return {"imagePullSecrets": found} if found else {}


def placement(node: NodeShape) -> Manifest:
    tolerations = [_toleration(item) for item in node.tolerations]
    return {
        **({"nodeSelector": dict(node.node_selector)} if node.node_selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
    }


def pod_security(security: Security) -> Manifest:
    ids = {"runAsUser": security.user, "runAsGroup": security.group, "fsGroup": security.group}
    return {
        "runAsNonRoot": True,
        **{name: value for name, value in ids.items() if value is not None},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """No IPC_LOCK for RDMA: it does nothing for a user that is not root, and the level forbids it. The nodes' container
    runtime must allow locked memory instead (`LimitMEMLOCK=infinity`)."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def resources(node: NodeShape) -> Manifest:
    """Requests equal limits: the pods that are evicted last.

    No `ephemeral-storage`: Kueue admits only what its queues have quota for, and few give any for that. The volumes'
    own limits guard the node.
    """
    amounts = {
        "cpu": str(node.cpu),
        "memory": f"{node.memory_gib}Gi",
        **({node.gpu_resource: str(node.gpus)} if node.gpus else {}),
        **{name: str(count) for name, count in node.rdma.items()},
    }
    return {"requests": dict(amounts), "limits": dict(amounts)}


def mounts() -> list[Manifest]:
    return [
        {"name": name, "mountPath": path, **({"readOnly": True} if name == "config" else {})}
        for name, path in MOUNTS.items()
    ]


def volumes(spec: JobSpec) -> list[Manifest]:
    """No hostPath, which the restricted level forbids."""
    return [
        {"name": "config", "configMap": {"name": spec.name}},
        {"name": "scratch", **_scratch(spec.node.scratch)},
        {
            "name": "shared-memory",
            "emptyDir": {"medium": "Memory", "sizeLimit": f"{spec.node.shared_memory_gib}Gi"},
        },
        {"name": "home", "emptyDir": {"sizeLimit": SMALL_VOLUME}},
        {"name": "tmp", "emptyDir": {"sizeLimit": SMALL_VOLUME}},
    ]


def _container(spec: JobSpec, *, name: str) -> Manifest:
    return {
        "name": name,
        "image": spec.images.train,
        "imagePullPolicy": spec.images.pull_policy,
        "command": command(spec),
        "env": environment(spec),
        **({"ports": [METRICS]} if spec.stage in TRAINING_STAGES else {}),
        "resources": resources(spec.node),
        "securityContext": container_security(),
        "volumeMounts": mounts(),
        # The end of the log of a container that failed becomes its message: `lapactl jobs digest` shows it even
        # when the log itself is gone.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _scratch(scratch: Scratch) -> Manifest:
    size = f"{scratch.size_gib}Gi"
    if scratch.storage_class is None:
        return {"emptyDir": {"sizeLimit": size}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": scratch.storage_class,
        "resources": {"requests": {"storage": size}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _toleration(item: Toleration) -> Manifest:
    return {name: value for name, value in item.model_dump().items() if value is not None}
