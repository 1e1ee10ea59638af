"""A deployed policy: one Deployment for each release, and one Service whose selector says which of them is asked."""

from typing import Any

import yaml

from lapa_k8s.base import Manifest
from lapa_k8s.deployment import DeploymentSpec
from lapa_k8s.names import (
    BUNDLE_ANNOTATION,
    DEPLOYMENT_LABEL,
    DIGEST_ANNOTATION,
    MANAGED_LABELS,
    MODEL_ANNOTATION,
    RELEASE_LABEL,
    VERSION_ANNOTATION,
)
from lapa_k8s.rendering.environment import S3_KEYS, secret_key, store_variables, writable_folders
from lapa_k8s.rendering.paths import HOME, SCRATCH
from lapa_k8s.rendering.pods import SMALL_VOLUME, container_security, placement, pod_security, resources

COMPONENT = "policy-server"
CONTAINER = "server"
PORT_NAME = "http"
"""Robots, probes and Prometheus ask the same port; monitors know it by this name."""
TOKEN_VARIABLE = "LAPA_SERVER_TOKEN"
STARTUP_PERIOD, READY_PERIOD, LIVE_PERIOD = 5, 3, 10


def render_deployment(spec: DeploymentSpec) -> list[Manifest]:
    """What is applied, in this order, where nothing runs yet; equal specs give equal manifests."""
    return [policy_deployment(spec), policy_service(spec)]


def policy_deployment(spec: DeploymentSpec) -> Manifest:
    """The servers of one release. Another version is another Deployment, so this one's pods never change."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": spec.release,
            "namespace": spec.namespace,
            "labels": release_labels(spec),
            "annotations": identity(spec),
        },
        "spec": {
            "replicas": spec.serving.replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": spec.serving.startup_seconds + 60,
            # Its pods are only ever replaced to close their connections, and the GPUs of one more are not there.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "selector": {"matchLabels": selector(spec)},
            "template": {
                "metadata": {
                    # A proxy in front of the server would cut its long websockets.
                    "labels": {**release_labels(spec), "sidecar.istio.io/inject": "false"},
                    "annotations": {
                        "kubectl.kubernetes.io/default-container": CONTAINER,
                        **identity(spec),
                        **spec.annotations,
                    },
                },
                "spec": server_pod(spec, container=CONTAINER),
            },
        },
    }


def policy_service(spec: DeploymentSpec) -> Manifest:
    """What robots reach: its name stays, its selector is switched."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": deployment_labels(spec),
            "annotations": {**identity(spec), **spec.serving.service_annotations},
        },
        "spec": {
            "type": spec.serving.service_type,
            "selector": selector(spec),
            "ports": [{"name": PORT_NAME, "port": spec.serving.port, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }


def server_pod(spec: DeploymentSpec, *, container: str) -> Manifest:
    serving = spec.serving
    pulled = [{"name": name} for name in spec.images.pull_secrets]
    return {
        **placement(serving.node),
        **({"serviceAccountName": serving.service_account} if serving.service_account else {}),
        **({"imagePullSecrets": pulled} if pulled else {}),
        "automountServiceAccountToken": False,  # cloud identity brings its own token; a server talks to no API
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": serving.stop_seconds,
        "securityContext": pod_security(spec.security),
        "containers": [_container(spec, name=container)],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": f"{serving.node.scratch.size_gib}Gi"}},
            {
                "name": "shared-memory",
                "emptyDir": {"medium": "Memory", "sizeLimit": f"{serving.node.shared_memory_gib}Gi"},
            },
            {"name": "home", "emptyDir": {"sizeLimit": SMALL_VOLUME}},
            {"name": "tmp", "emptyDir": {"sizeLimit": SMALL_VOLUME}},
        ],
    }


def deployment_labels(spec: DeploymentSpec) -> dict[str, str]:
    """What finds everything of a deployment."""
    return {**MANAGED_LABELS, "app.kubernetes.io/component": COMPONENT, DEPLOYMENT_LABEL: spec.name}


def release_labels(spec: DeploymentSpec) -> dict[str, str]:
    return {**deployment_labels(spec), RELEASE_LABEL: spec.release}


def selector(spec: DeploymentSpec) -> dict[str, str]:
    return {DEPLOYMENT_LABEL: spec.name, RELEASE_LABEL: spec.release}


def identity(spec: DeploymentSpec) -> dict[str, str]:
    """Which version this is, for whoever looks at the cluster alone."""
    pinned = spec.pinned
    return {
        MODEL_ANNOTATION: pinned.model,
        VERSION_ANNOTATION: str(pinned.version),
        DIGEST_ANNOTATION: pinned.digest,
        BUNDLE_ANNOTATION: pinned.url,
    }


def server_command(spec: DeploymentSpec) -> list[str]:
    """In exec form: `lapactl serve` puts the server in its own place, so that signals reach it."""
    serving, pinned = spec.serving, spec.pinned
    settings = {
        "drain_seconds": serving.drain_seconds,
        "grace_seconds": serving.grace_seconds,
        "has_open_metrics": serving.has_open_metrics,
        **serving.settings,
    }
    return [
        "lapactl", "serve", pinned.url, "--host", "0.0.0.0", "--port", str(serving.port),
        "--name", pinned.model, "--version", str(pinned.version), "--digest", pinned.digest,
        *(["--insecure"] if serving.token is None else []),
        *(part for name, value in settings.items() for part in ("--set", f"{name}={_plain(value)}")),
    ]  # fmt: skip


def _container(spec: DeploymentSpec, *, name: str) -> Manifest:
    serving = spec.serving
    live, ready = (_get(f"/v2/health/{what}") for what in ("live", "ready"))
    return {
        "name": name,
        "image": spec.images.serve,
        "imagePullPolicy": spec.images.pull_policy,
        "command": server_command(spec),
        "env": _variables(spec),
        "ports": [{"name": PORT_NAME, "containerPort": serving.port, "protocol": "TCP"}],
        # The server answers both from its first moment on, and the weights arrive after that: a slow start is the
        # rollout's to judge, and no reason to restart.
        "startupProbe": {**live, "periodSeconds": STARTUP_PERIOD, "timeoutSeconds": 5,
                         "failureThreshold": -(-serving.startup_seconds // STARTUP_PERIOD)},
        "readinessProbe": {**ready, "periodSeconds": READY_PERIOD, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**live, "periodSeconds": LIVE_PERIOD, "timeoutSeconds": 10, "failureThreshold": 6},
        "resources": resources(serving.node),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        # Why a server did not start is then in its pod's status, which a rollout reads.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip


def _get(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": PORT_NAME}}


def _variables(spec: DeploymentSpec) -> list[Manifest]:
    plain = {
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        **writable_folders(),
        **store_variables(spec.storage),
        **spec.environment,
    }
    token = spec.serving.token
    referenced = {
        **{name: (spec.storage.secret, name, needed) for name, needed in S3_KEYS.items() if spec.storage.secret},
        **({TOKEN_VARIABLE: (token.secret, token.key, True)} if token else {}),
        **{name: (source.secret, source.key, True) for name, source in spec.secrets.items()},
    }
    return [
        *({"name": name, "value": value} for name, value in plain.items() if name not in referenced),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": secret_key(secret, key, is_needed=needed)}}
            for name, (secret, key, needed) in referenced.items()
        ),
    ]


def _plain(value: Any) -> str:
    """A setting as `--set` reads it."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]
