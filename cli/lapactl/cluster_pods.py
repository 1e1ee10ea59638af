"""What the pods of earlier jobs prove about the nodes: nothing else on this side of them can."""

from collections.abc import Iterator
from typing import Any

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.image_pulls import WAITING_REASONS, explain_pull
from lapa_k8s.kinds import EVENT, POD
from lapa_k8s.names import MANAGED_SELECTOR
from lapa_k8s.states import container_statuses
from lapactl.checks import Check

FIRST_JOB = "the first job tells: lapactl jobs why JOB"
"""What to do about what only a pod finds out."""


def check_image_pull(cluster: Cluster, namespace: str, image: str) -> Check:
    """Whether nodes can pull the image, by the youngest pod that tried."""
    pods = cluster.select(POD, namespace, labels=MANAGED_SELECTOR)
    for pod in sorted(pods, key=lambda item: str(item["metadata"].get("creationTimestamp")), reverse=True):
        name = pod["metadata"]["name"]
        for status in _statuses_of(pod, image):
            waiting = (status.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in WAITING_REASONS:
                why = explain_pull(pod, str(waiting.get("message") or ""), cluster.select(EVENT, namespace))
                return Check("image pull", "fail", f"pod '{name}': {why.why}", why.remedy)
            if status.get("imageID"):
                return Check("image pull", "ok", f"pod '{name}' has pulled '{image}'")
    return Check("image pull", "unseen", f"no pod here has tried '{image}' yet", FIRST_JOB)


def _statuses_of(pod: Manifest, image: str) -> Iterator[dict[str, Any]]:
    """Of its containers with that image; a status spells the image as the node does, the pod as we did."""
    containers = (pod.get("spec") or {}).get("containers") or []
    names = {container["name"] for container in containers if container.get("image") == image}
    return (status for status in container_statuses(pod) if status.get("name") in names)
