"""Kubernetes as a place where policies are deployed: one Deployment for each release, one Service that says which.

The Service is the truth: its selector sends robots to a release, its annotation is the record, and both are written by
one request under the Service's `resourceVersion`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.deployment import DeploymentSpec, Pinned
from lapa_k8s.deployment_record import Record, Release, parse_record, stamp
from lapa_k8s.errors import AccessDenied, NameTaken, NotFound, Overtaken
from lapa_k8s.image_pulls import WAITING_REASONS, explain_pull
from lapa_k8s.kinds import DEPLOYMENT, EVENT, POD, SERVICE
from lapa_k8s.names import (
    CLAIM_LABEL,
    DEPLOYMENT_LABEL,
    MANAGED_SELECTOR,
    RECORD_ANNOTATION,
    RELEASE_LABEL,
)
from lapa_k8s.rendering.policy_server import (
    COMPONENT,
    deployment_labels,
    identity,
    policy_deployment,
    policy_service,
    selector,
)
from lapa_k8s.rollout import Health, Held, Started, new_claim, now
from lapa_k8s.states import ends, unschedulable, waiting

EVERYTHING = f"{MANAGED_SELECTOR},app.kubernetes.io/component={COMPONENT}"
RELIEVED_ANNOTATION = "lapa.dev/relieved-at"
ENDS_THAT_COUNT = 2
"""A server that ended this often does not come up; the first time may have been the object store's bad minute."""
FINAL_CODES = (2, 8)
"""Exit codes that a second try does not mend: a setting, a missing dependency."""


class ClusterTarget:
    """One namespace of a cluster."""

    def __init__(self, cluster: Cluster, namespace: str, *, options: str = "") -> None:
        self._cluster, self._namespace = cluster, namespace
        self.options = options
        """With which a command finds this place again."""

    @property
    def place(self) -> dict[str, Any]:
        return {"target": "kubernetes", "namespace": self._namespace}

    def address(self, name: str) -> str:
        """How robots inside the cluster reach it."""
        service = self._cluster.get(SERVICE, self._namespace, name)
        return f"ws://{name}.{self._namespace}:{service['spec']['ports'][0]['port']}"

    def names(self) -> list[str]:
        found = [
            item["metadata"]["labels"].get(DEPLOYMENT_LABEL, "")
            for kind in (SERVICE, DEPLOYMENT)
            for item in self._cluster.select(kind, self._namespace, labels=EVERYTHING)
        ]
        return sorted({name for name in found if name})

    def read(self, name: str) -> Held | None:
        """Raises NameTaken where the Service is somebody else's."""
        service = self._cluster.find(SERVICE, self._namespace, name)
        if service is None:
            return None
        text = (service["metadata"].get("annotations") or {}).get(RECORD_ANNOTATION)
        if text is None:
            raise NameTaken(
                f"the Service '{name}' in namespace '{self._namespace}' was not made by `lapactl deploy`; choose "
                "another --name"
            )
        return Held(parse_record(name, text), service["metadata"]["resourceVersion"])

    def write(self, record: Record, token: str | None) -> None:
        spec = _spec_of(record.active)
        text = record.model_dump_json(exclude_defaults=True)
        if token is None:
            service = policy_service(spec)
            service["metadata"]["annotations"][RECORD_ANNOTATION] = text
            try:
                self._cluster.create(SERVICE, self._namespace, service)
            except NameTaken as error:
                raise Overtaken(f"somebody else deployed '{record.name}' at the same time; look again") from error
            return
        change = {
            "metadata": {
                "resourceVersion": token,
                "labels": deployment_labels(spec),
                "annotations": {**identity(spec), **spec.serving.service_annotations, RECORD_ANNOTATION: text},
            },
            "spec": {"selector": selector(spec), "type": spec.serving.service_type},
        }
        self._cluster.patch(SERVICE, self._namespace, record.name, change)

    def start(self, release: Release) -> Started:
        manifest = policy_deployment(_spec_of(release))
        claim = new_claim()
        manifest["metadata"]["labels"][CLAIM_LABEL] = claim
        try:
            self._cluster.create(DEPLOYMENT, self._namespace, manifest)
            return Started(claim, is_new=True)
        except NameTaken:
            change = {"metadata": {"labels": {CLAIM_LABEL: claim}}}
            self._cluster.patch(DEPLOYMENT, self._namespace, release.name, change)
            return Started(claim, is_new=False)

    def claims(self, name: str) -> dict[str, str]:
        labels = f"{EVERYTHING},{DEPLOYMENT_LABEL}={name}"
        found = self._cluster.select(DEPLOYMENT, self._namespace, labels=labels)
        return {item["metadata"]["name"]: _claim(item) for item in found}

    def discard(self, release: str, claim: str) -> bool:
        while (found := self._cluster.find(DEPLOYMENT, self._namespace, release)) is not None:
            if _claim(found) != claim:
                return False
            try:
                self._cluster.delete(DEPLOYMENT, self._namespace, release, version=found["metadata"]["resourceVersion"])
                return True
            except Overtaken:
                continue  # its status changed: look again who answers for it
        return False

    def health(self, release: Release) -> Health:
        found = self._cluster.find(DEPLOYMENT, self._namespace, release.name)
        wanted = _spec_of(release).serving.replicas
        if found is None or found["metadata"].get("deletionTimestamp"):
            return Health("missing", 0, wanted, "its Deployment is gone")
        status = found.get("status") or {}
        is_seen = int(status.get("observedGeneration") or 0) >= int(found["metadata"].get("generation") or 0)
        ready = min(int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)) if is_seen else 0
        if ready >= wanted:
            return Health("ready", ready, wanted, f"{ready} of {wanted} ready")
        if (refused := _condition(status, "ReplicaFailure")) is not None:
            return Health("failed", ready, wanted, f"its pods are refused: {refused}")
        return self._health_of_pods(release, ready, wanted)

    def relieve(self, release: Release) -> None:
        """Its pods are replaced one by one: each drains, and tells its robots to connect again."""
        change = {"spec": {"template": {"metadata": {"annotations": {RELIEVED_ANNOTATION: stamp(now())}}}}}
        try:
            self._cluster.patch(DEPLOYMENT, self._namespace, release.name, change)
        except NotFound:
            return

    def remove(self, name: str) -> None:
        self._cluster.delete(SERVICE, self._namespace, name)
        for release in self.claims(name):
            self._cluster.delete(DEPLOYMENT, self._namespace, release)

    def repinned(self, release: Release, pinned: Pinned) -> Release:
        spec = _spec_of(release).model_copy(update={"pinned": pinned, "known_as": ""})
        return release_of(DeploymentSpec.model_validate(spec.model_dump()), release)

    def _health_of_pods(self, release: Release, ready: int, wanted: int) -> Health:
        labels = f"{RELEASE_LABEL}={release.name}"
        pods = [
            pod
            for pod in self._cluster.select(POD, self._namespace, labels=labels)
            if not pod["metadata"].get("deletionTimestamp")
        ]
        failure = self._failure(pods)
        if failure:
            return Health("failed", ready, wanted, failure)
        return Health("starting", ready, wanted, _progress(pods, ready, wanted))

    def _failure(self, pods: Sequence[Manifest]) -> str:
        """Why they will never be ready; empty while they may."""
        for pod in pods:
            for item in waiting(pod):
                reason, message = str(item.get("reason") or ""), str(item.get("message") or "")
                if reason in WAITING_REASONS and reason != "ErrImagePull":  # the first try may have met a bad minute
                    why, remedy = explain_pull(pod, message, self._events())
                    return f"{why}; {remedy.replace('images.train', 'images.serve')}"
                if reason == "CreateContainerConfigError":
                    return f"its container cannot be made: {message}. Make that Secret, or name another"
        ended = ends(pods)
        if ended and (len(ended) >= ENDS_THAT_COUNT or _restarts(pods) or ended[-1].exit_code in FINAL_CODES):
            return f"its server ended with exit code {ended[-1].exit_code}: {self._last_line(ended[-1].message)}"
        return ""

    def _last_line(self, message: str) -> str:
        lines = [line for line in message.strip().splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"

    def _events(self) -> list[Manifest]:
        try:
            return self._cluster.select(EVENT, self._namespace)
        except AccessDenied:
            return []


def release_of(spec: DeploymentSpec, like: Release) -> Release:
    """The release that a spec makes."""
    # Whole, without leaving defaults out: what was deployed stays as it was when defaults change.
    plain = spec.model_copy(update={"known_as": spec.release}).model_dump(mode="json")
    return like.model_copy(update={"name": spec.release, "pinned": spec.pinned, "spec": plain})


def keep_of(release: Release) -> timedelta:
    """How long what a release replaces stays warm."""
    return timedelta(minutes=_spec_of(release).serving.keep_minutes)


def startup_seconds_of(release: Release) -> float:
    return _spec_of(release).serving.startup_seconds


def _spec_of(release: Release) -> DeploymentSpec:
    return DeploymentSpec.model_validate(release.spec)


def _claim(deployment: Manifest) -> str:
    return str((deployment["metadata"].get("labels") or {}).get(CLAIM_LABEL) or "")


def _condition(status: Manifest, kind: str) -> str | None:
    for item in status.get("conditions") or []:
        if item.get("type") == kind and item.get("status") == "True":
            return str(item.get("message") or item.get("reason") or kind)
    return None


def _restarts(pods: Sequence[Manifest]) -> int:
    statuses = [item for pod in pods for item in (pod.get("status") or {}).get("containerStatuses") or []]
    return sum(int(item.get("restartCount") or 0) for item in statuses)


def _progress(pods: Sequence[Manifest], ready: int, wanted: int) -> str:
    for pod in pods:
        if (words := unschedulable(pod)) is not None:
            return f"no node has a place for it: {words.splitlines()[0][:200]}"
    for pod in pods:
        for item in waiting(pod):
            return f"{ready} of {wanted} ready; {item.get('reason') or 'its container waits'}"
    return f"{ready} of {wanted} ready" if pods else "no pods yet"
