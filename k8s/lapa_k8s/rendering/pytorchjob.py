"""PyTorchJob, `kubeflow.org/v1`: Kubeflow's training operator.

Workers only, with an elastic policy of exactly N nodes. A Master would bring an init container without a
security context, which namespaces at the restricted level reject, node-level `RANK` and `WORLD_SIZE`
variables that look like torchrun's, and a job in which a lost pod is never rejoined by the others.
"""

from lapa_k8s.base import Manifest
from lapa_k8s.rendering.metadata import job_metadata
from lapa_k8s.rendering.pods import pod_template
from lapa_k8s.spec import JobSpec

CONTAINER = "pytorch"
"""The operator's webhook demands this name."""
PORT = 23456
"""The operator's own; worker 0 holds the store where the nodes meet."""


def pytorchjob(spec: JobSpec) -> Manifest:
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": job_metadata(spec),
        "spec": {
            "nprocPerNode": str(spec.processes_per_node),  # a string, "auto" is another value
            "runPolicy": _run_policy(spec),
            "elasticPolicy": _elastic_policy(spec),
            "pytorchReplicaSpecs": {
                "Worker": {
                    "replicas": spec.nodes,
                    # Not ExitCode, under which torchrun's codes fail the job and a TTL can leave it uncollectable.
                    "restartPolicy": "OnFailure",
                    "template": pod_template(spec, container=CONTAINER, restart_policy="OnFailure"),
                }
            },
        },
    }


def _run_policy(spec: JobSpec) -> Manifest:
    deadline = spec.restarts.deadline_seconds
    return {
        # Counts restarts summed over all pods: a restart of the whole job costs one per node. The job fails when the
        # sum reaches the limit, so the limit is the first restart that is too many.
        "backoffLimit": spec.nodes * spec.restarts.retries + 1,
        "cleanPodPolicy": "Running",  # a failed job would otherwise leave its other pods on their GPUs
        "ttlSecondsAfterFinished": spec.restarts.keep_seconds,
        **({"activeDeadlineSeconds": deadline} if deadline else {}),
    }


def _elastic_policy(spec: JobSpec) -> Manifest:
    patience = str(spec.restarts.rendezvous_seconds)
    return {
        "rdzvBackend": "c10d",
        "rdzvId": spec.name,
        "rdzvPort": PORT,
        "minReplicas": spec.nodes,
        "maxReplicas": spec.nodes,
        "maxRestarts": spec.restarts.in_place,
        # torchrun gives nodes 600 s to appear and the store 60 s to answer; large images take longer.
        "rdzvConf": [{"key": key, "value": patience} for key in ("join_timeout", "read_timeout", "timeout")],
    }
