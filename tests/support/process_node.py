"""A STAND-IN for a node: takes the pods of a namespace that have no place, and runs each as processes of this machine.

It does the work of scheduler and kubelet as far as the pods' statuses, ends, restarts, deletions and logs go, on a real
API server. A pod has one container; limits, probes, security and networks of its own there are none.
"""

import base64
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from container_logs import serving_logs
from pod_process import ConfigError, ContainerEnd, PodProcess, now
from real_api import free_port
from training_operator import SERVICE, running_loop

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import NotFound
from lapa_k8s.kinds import CONFIG_MAP, POD, SECRET

logger = logging.getLogger(__name__)

NAME = "process-node"
BACKOFF_SECONDS = (0, 10, 20, 40, 80, 160)
"""A kubelet's waits before it starts a container again."""


class ProcessNode:
    """The pods it has, by uid."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster, self._namespace, self._folder = cluster, namespace, folder
        self._pods: dict[str, RunningPod] = {}
        self._ports: dict[str, int] = {}

    def work(self) -> None:
        """One look at every pod."""
        pods = {pod["metadata"]["uid"]: pod for pod in self._cluster.select(POD, self._namespace)}
        for uid in self._pods.keys() - pods.keys():
            self._pods.pop(uid).process.remove()
        for uid, pod in pods.items():
            if not pod["spec"].get("nodeName"):
                self._bind(pod)
            elif pod["spec"]["nodeName"] == NAME:
                self._sync(self._pods.setdefault(uid, self._take(pod)), pod)

    def kill(self, pod: str) -> None:
        """SIGKILL to everything in a pod's container."""
        self._pod(pod).process.kill()

    def log_of(self, pod: str, *, is_previous: bool = False) -> tuple[Path, PodProcess] | None:
        """The log of a container's present or last life."""
        process = self._pod(pod).process
        life = process.lives - is_previous
        return (process.log_file(life), process) if life > 0 else None

    def stop(self) -> None:
        for running in self._pods.values():
            running.process.remove()
        for log in sorted(self._folder.glob("*/*.log")):  # pytest shows them where the test fails
            logger.warning("log of %s\n%s", log.relative_to(self._folder), log.read_text(encoding="utf-8"))

    def _pod(self, name: str) -> "RunningPod":
        return next(found for found in self._pods.values() if found.process.pod["metadata"]["name"] == name)

    def _bind(self, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self._cluster.post_path(f"{POD.path(self._namespace, name)}/binding", body)

    def _take(self, pod: Manifest) -> "RunningPod":
        folder = self._folder / str(len(self._pods))  # short: sockets lie in it
        return RunningPod(PodProcess(pod, Path(f"{folder}-{pod['metadata']['uid'][:4]}")))

    def _sync(self, running: "RunningPod", pod: Manifest) -> None:
        running.step(pod, self._data_of, self._address_of)
        status = running.status()
        if running.is_gone:
            running.process.remove()
            path = POD.path(self._namespace, pod["metadata"]["name"])
            self._cluster._json("DELETE", path, query={"gracePeriodSeconds": "0"})
        elif any(pod["status"].get(key) != value for key, value in status.items()):
            self._cluster.patch(POD, self._namespace, pod["metadata"]["name"], {"status": status}, part="status")

    def _data_of(self, kind: str, name: str) -> Mapping[str, str] | None:
        found = self._cluster.find(SECRET if kind == "Secret" else CONFIG_MAP, self._namespace, name)
        if found is None:
            return None
        data = found.get("data") or {}
        if kind == "Secret":
            return {key: base64.b64decode(value).decode() for key, value in data.items()}
        return dict(data)

    def _address_of(self, text: str) -> str:
        """Cluster DNS and network in one: a Service's name and port as an address of this machine."""
        for service in self._cluster.select(SERVICE, self._namespace):
            name = service["metadata"]["name"]
            text = re.sub(rf"^{re.escape(name)}:\d+$", lambda match: f"127.0.0.1:{self._port(match[0])}", text)
        return text

    def _port(self, place: str) -> int:
        return self._ports.setdefault(place, free_port())


class RunningPod:
    """What a kubelet knows about a pod."""

    def __init__(self, process: PodProcess) -> None:
        self.process = process
        self.is_gone = False
        """Deleted, and its container has ended."""
        self._ends: list[ContainerEnd] = []
        self._problem = ""
        self._starts_at = 0.0
        self._killed_at: float | None = None

    def step(self, pod: Manifest, data_of: Any, address_of: Any) -> None:
        if self._is_up and (end := self.process.poll()) is not None:
            self._ends.append(end)
            self._starts_at = time.monotonic() + BACKOFF_SECONDS[min(len(self._ends), len(BACKOFF_SECONDS)) - 1]
        if pod["metadata"].get("deletionTimestamp"):
            self._end(float(pod["metadata"]["deletionGracePeriodSeconds"]))
        elif not self._is_up and not self._is_over and time.monotonic() >= self._starts_at:
            try:
                self.process.start(data_of, address_of)
                self._problem = ""
            except ConfigError as problem:
                self._problem, self._starts_at = str(problem), time.monotonic() + 2

    def status(self) -> Manifest:
        phase = "Pending" if self._problem else "Running"
        if self._is_over:
            phase = "Failed" if self._ends[-1].code else "Succeeded"
        is_ready = "True" if self._is_up else "False"
        truths = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": is_ready, "Ready": is_ready}
        earlier = self._ends if self._is_up else self._ends[:-1]
        container = {
            "name": self.process.container["name"],
            "image": self.process.container["image"],
            "imageID": "",
            "ready": self._is_up,
            "restartCount": max(self.process.lives - 1, 0),
            "state": self._state(),
            "lastState": _terminated(earlier[-1]) if earlier else {},
        }
        return {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "conditions": [{"type": kind, "status": value} for kind, value in truths.items()],
            "containerStatuses": [container],
        }

    @property
    def _is_up(self) -> bool:
        return self.process.lives > len(self._ends)

    @property
    def _is_over(self) -> bool:
        """The container ended and does not start again."""
        policy = self.process.pod["spec"]["restartPolicy"]
        if not self._ends or self._is_up or policy == "Always":
            return False
        return policy == "Never" or self._ends[-1].code == 0

    def _state(self) -> Manifest:
        if self._problem:
            return {"waiting": {"reason": "CreateContainerConfigError", "message": self._problem}}
        if self._is_up:
            return {"running": {"startedAt": self.process.started}}
        if self._ends:
            return _terminated(self._ends[-1])
        return {"waiting": {"reason": "ContainerCreating"}}

    def _end(self, grace_seconds: float) -> None:
        if not self._is_up:
            self.is_gone = True
        elif self._killed_at is None:
            self._killed_at = time.monotonic() + grace_seconds
            self.process.terminate()
        elif time.monotonic() > self._killed_at:
            self.process.kill()


@contextmanager
def running_process_node(cluster: Cluster, namespace: str, folder: Path) -> Iterator[ProcessNode]:
    """A node of its own for a namespace, until the block ends. `folder` has a short path."""
    node = ProcessNode(cluster, namespace, folder)
    with serving_logs(node, folder) as port:
        _register(cluster, port)
        try:
            with running_loop(node.work):
                yield node
        finally:
            node.stop()


def _register(cluster: Cluster, port: int) -> None:
    """Says where the node's kubelet listens, which is where the API server reads logs."""
    path = "/api/v1/nodes"
    try:
        cluster.get_path(f"{path}/{NAME}")
    except NotFound:
        cluster.post_path(path, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "StandIn", "message": now()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    cluster._json(
        "PATCH", f"{path}/{NAME}/status", body={"status": status}, content_type="application/merge-patch+json"
    )


def _terminated(end: ContainerEnd) -> Manifest:
    found = {"exitCode": end.code, "reason": "Error" if end.code else "Completed", "startedAt": end.started,
             "finishedAt": end.finished, "containerID": ""}  # fmt: skip
    return {"terminated": {**found, "message": end.message} if end.message else found}
