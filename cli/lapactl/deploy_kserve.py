"""KServe as a target: one InferenceService, which KServe itself rolls out."""

import time
from collections.abc import Callable
from typing import Any

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.deployment import DeploymentSpec
from lapa_k8s.errors import RolloutFailed
from lapa_k8s.kinds import INFERENCE_SERVICE
from lapa_k8s.rendering.inference_service import inference_service

POLL_SECONDS = 2.0


def apply_inference_service(
    cluster: Cluster, spec: DeploymentSpec, *, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Create or change it, and wait until KServe says Ready. Raises RolloutFailed; KServe keeps what ran before."""
    manifest = inference_service(spec)
    found = cluster.find(INFERENCE_SERVICE, spec.namespace, spec.name)
    if found is None:
        applied = cluster.create(INFERENCE_SERVICE, spec.namespace, manifest)
    else:
        manifest["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        applied = cluster.patch(INFERENCE_SERVICE, spec.namespace, spec.name, manifest)
    if seconds:
        say(f"waiting until KServe says that {spec.name} is ready")
        _await_ready(cluster, spec, int(applied["metadata"].get("generation") or 0), seconds)
    return {
        "deployment": spec.name, "state": "applied", "model": spec.pinned.model, "version": spec.pinned.version,
        "digest": spec.pinned.digest,
    }  # fmt: skip


def _await_ready(cluster: Cluster, spec: DeploymentSpec, generation: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        status: Manifest = cluster.get(INFERENCE_SERVICE, spec.namespace, spec.name).get("status") or {}
        conditions = {item["type"]: item for item in status.get("conditions") or []}
        ready = conditions.get("Ready") or {}
        is_seen = int(status.get("observedGeneration") or 0) >= generation
        if is_seen and ready.get("status") == "True":
            return
        if time.monotonic() > deadline:
            why = ready.get("message") or ready.get("reason") or "KServe said nothing; does its controller run?"
            raise RolloutFailed(
                f"{spec.pinned.words} was not ready after {seconds:.0f} s: {why}. KServe still sends robots to what "
                f"ran before; `kubectl describe inferenceservice {spec.name}` says more"
            )
        time.sleep(POLL_SECONDS)
