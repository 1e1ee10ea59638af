"""A STAND-IN for the Deployment controller and the kubelet, on a real API server: makes a pod for each replica, says of
it what a kubelet would say, and counts the ready ones in the Deployment's status. What a server would do is told by a
word in its bundle's URL.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError, NameTaken, NotFound, Overtaken
from lapa_k8s.kinds import DEPLOYMENT, POD
from lapa_k8s.names import BUNDLE_ANNOTATION, RELEASE_LABEL
from lapa_k8s.rollout_cluster import EVERYTHING

SILENT, BROKEN, NO_IMAGE, REFUSED = "silent", "broken", "no-image", "refused"
"""Never ready; ends with an error; its image is missing; its pods are refused (a quota, a policy)."""
LAST_WORDS = "INFO loading\nPolicyError: s3://robots/broken-2 has digest 12, expected 34; it is not served.\n"


class Controller:
    """Deployments of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self.templates: dict[str, set[str]] = {}
        """Templates that each Deployment had, as text: a second one means that its pods were replaced."""

    def work(self) -> None:
        deployments = self._cluster.select(DEPLOYMENT, self._namespace, labels=EVERYTHING)
        for item in deployments:
            with suppress(NotFound, Overtaken):  # deleted under its hands
                self._bring_up(item)
        known = {item["metadata"]["name"] for item in deployments}
        for pod in self._cluster.select(POD, self._namespace, labels=EVERYTHING):
            if pod["metadata"]["labels"][RELEASE_LABEL] not in known:
                self._cluster.delete(POD, self._namespace, pod["metadata"]["name"])

    def _bring_up(self, deployment: dict[str, Any]) -> None:
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        self.templates.setdefault(name, set()).add(str(spec["template"]["metadata"]))
        url = deployment["metadata"]["annotations"][BUNDLE_ANNOTATION]
        is_ready = not any(word in url for word in (SILENT, BROKEN, NO_IMAGE, REFUSED))
        status: dict[str, Any] = {"observedGeneration": deployment["metadata"]["generation"]}
        if REFUSED in url:
            words = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
            status["conditions"] = [{**words, "message": "pods are forbidden: exceeded quota: gpus"}]
        else:
            self._make_pods(deployment, url, is_ready=is_ready)
            count = spec["replicas"]
            ready = count if is_ready else 0
            status |= {"replicas": count, "updatedReplicas": count, "readyReplicas": ready, "availableReplicas": ready}
        self._cluster.patch(DEPLOYMENT, self._namespace, name, {"status": status}, part="status")

    def _make_pods(self, deployment: dict[str, Any], url: str, *, is_ready: bool) -> None:
        for index in range(deployment["spec"]["replicas"]):
            name = f"{deployment['metadata']['name']}-{index}"
            template = deployment["spec"]["template"]
            metadata = {**template["metadata"], "name": name, "namespace": self._namespace}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            with suppress(NameTaken):
                self._cluster.create(POD, self._namespace, pod)
            change = {"status": {"phase": "Running", "containerStatuses": [_container(url, is_ready)]}}
            self._cluster.patch(POD, self._namespace, name, change, part="status")


def _container(url: str, is_ready: bool) -> dict[str, Any]:
    status: dict[str, Any] = {
        "name": "server", "image": "lapa-serve", "imageID": "", "ready": is_ready, "restartCount": 0,
    }  # fmt: skip
    if NO_IMAGE in url:
        words = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image: "lapa-serve:9": not found'}
        return {**status, "state": {"waiting": words}}
    if BROKEN in url:
        end = {"exitCode": 6, "reason": "Error", "message": LAST_WORDS, "containerID": f"x://{uuid.uuid4().hex}"}
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
        return {**status, "restartCount": 1, "state": {"waiting": waiting}, "lastState": {"terminated": end}}
    return {**status, "state": {"running": {}}}


@contextmanager
def running_controller(cluster: Cluster, namespace: str) -> Iterator[Controller]:
    """Looks several times a second, until the block ends."""
    controller, stop = Controller(cluster, namespace), threading.Event()

    def loop() -> None:
        while not stop.wait(0.1):
            with suppress(ClusterError):  # the server may be away for a moment
                controller.work()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield controller
    finally:
        stop.set()
        thread.join(timeout=60)
