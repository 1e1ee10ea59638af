"""KServe's InferenceService, `serving.kserve.io/v1beta1`: the same pod, rolled out by KServe.

Standard mode (plain Deployments): KServe's other mode puts Knative in front, whose time limits cut long websockets.
"""

from lapa_k8s.base import Manifest
from lapa_k8s.deployment import DeploymentSpec
from lapa_k8s.rendering.policy_server import deployment_labels, identity, server_pod

CONTAINER = "kserve-container"
"""KServe knows a custom predictor by this name."""
PORT_NAME = "http1"
"""KServe's word for a port that speaks plain HTTP."""
MODE = {"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "none"}
"""Fixed replicas: how busy a policy is does not show in its CPU. Before KServe 0.16 Standard was `RawDeployment`; newer
ones take that word once, and refuse every change after it."""


def inference_service(spec: DeploymentSpec) -> Manifest:
    pod = server_pod(spec, container=CONTAINER)
    (container,) = pod["containers"]
    port = {**container["ports"][0], "name": PORT_NAME}
    # A probe's port by number, since KServe copies probes into containers whose ports it names itself.
    probes = {
        name: {**container[name], "httpGet": {**container[name]["httpGet"], "port": spec.serving.port}}
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": deployment_labels(spec),
            "annotations": {**identity(spec), **MODE},
        },
        "spec": {
            "predictor": {
                "minReplicas": spec.serving.replicas,
                "maxReplicas": spec.serving.replicas,
                **pod,
                "containers": [{**container, "ports": [port], **probes}],
            }
        },
    }
