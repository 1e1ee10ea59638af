"""TrainJob, `trainer.kubeflow.org/v1alpha1`: Kubeflow Trainer 2.2 and later.

A TrainJob fills in a runtime: it says image, command, nodes and resources, and patches volumes, placement and
security into the runtime's pods. What it cannot say is the runtime's: grace period, priority class, restarts
(the JobSet's failure policy), ports, and read-only settings of the pod. The chart's runtime has them.

There is no time to live: in the runtime it would have finished JobSets collected and then made again, which runs
the training anew. `lapactl jobs gc` removes finished jobs.
"""

from lapa_k8s.base import Manifest
from lapa_k8s.rendering.command import command
from lapa_k8s.rendering.environment import environment
from lapa_k8s.rendering.metadata import job_metadata
from lapa_k8s.rendering.pods import (
    accounts,
    container_security,
    mounts,
    placement,
    pod_annotations,
    pod_labels,
    pod_security,
    resources,
    volumes,
)
from lapa_k8s.spec import JobSpec

API_GROUP = "trainer.kubeflow.org"
MANAGER = "lapa.dev/lapactl"
"""Owner of our patch; Kueue has one of its own."""


def trainjob(spec: JobSpec) -> Manifest:
    deadline = spec.restarts.deadline_seconds
    return {
        "apiVersion": f"{API_GROUP}/v1alpha1",
        "kind": "TrainJob",
        "metadata": job_metadata(spec),
        "spec": {
            "runtimeRef": {"apiGroup": API_GROUP, "kind": spec.runtime.kind, "name": spec.runtime.name},
            "trainer": {
                "image": spec.images.train,
                "command": command(spec),
                "env": environment(spec),
                "numNodes": spec.nodes,
                "numProcPerNode": spec.processes_per_node,
                "resourcesPerNode": resources(spec.node),
            },
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": _patch(spec)}}}],
            **({"activeDeadlineSeconds": deadline} if deadline else {}),
        },
    }


def _patch(spec: JobSpec) -> Manifest:
    """Of the JobSet: its training job's pods."""
    container = {"name": spec.runtime.container, "volumeMounts": mounts(), "securityContext": container_security()}
    pods = {
        "metadata": {
            "labels": pod_labels(spec),
            "annotations": pod_annotations(spec, container=spec.runtime.container),
        },
        "spec": {
            **placement(spec.node),
            **accounts(spec),
            "securityContext": pod_security(spec.security),
            "containers": [container],
            "volumes": volumes(spec),
        },
    }
    return {"replicatedJobs": [{"name": spec.runtime.job, "template": {"spec": {"template": pods}}}]}
