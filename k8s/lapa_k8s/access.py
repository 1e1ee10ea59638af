"""The rights that our commands need in a namespace, as data: `lapactl doctor --cluster` asks for each of them.

The chart's roles grant these and no others. None of them reads a Secret.
"""

from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import Kind

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Right(NamedTuple):
    """One resource and what may be done with it; `part` is a subresource such as `log`."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    part: str = ""

    @property
    def words(self) -> str:
        return "/".join(item for item in (self.resource, self.part) if item)


_JOBS = (("kubeflow.org", "pytorchjobs"), ("trainer.kubeflow.org", "trainjobs"), ("batch", "jobs"))
_EVERYTHING = ("create", "get", "list", "watch", "patch", "delete")

SUBMITTER = (
    *(Right(group, resource, _EVERYTHING) for group, resource in _JOBS),
    Right("", "configmaps", ("create", "get", "list", "patch", "delete")),
    Right("", "pods", ("get", "list")),
    Right("", "pods", ("get",), "log"),
    Right("", "events", ("list",)),
)
"""`lapactl submit` and `lapactl jobs`."""
QUEUES = (
    Right("kueue.x-k8s.io", "workloads", ("list", "patch")),
    Right("kueue.x-k8s.io", "localqueues", ("get",)),
)
"""What they ask Kueue, where jobs are queued: `jobs why`, `suspend` and `resume`."""
PIPELINE = (
    *(Right(group, resource, ("create", "get", "watch", "delete")) for group, resource in _JOBS),
    Right("", "configmaps", ("create", "get", "patch", "delete")),
    Right("", "pods", ("list",)),
)
"""The driver of `submit pipeline`: it submits stages, waits for them, and undoes a submission that breaks off."""


def missing_verbs(cluster: Cluster, namespace: str, right: Right) -> list[str]:
    """The verbs of a right that we have not. One question each: a rule may name resources, and an authorizer other
    than RBAC has no rules to list."""
    return [verb for verb in right.verbs if not _may(cluster, namespace, right, verb)]


def _may(cluster: Cluster, namespace: str, right: Right, verb: str) -> bool:
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": right.group,
        "resource": right.resource,
        **({"subresource": right.part} if right.part else {}),
    }
    return _answer(cluster, attributes)


def may_get(cluster: Cluster, namespace: str, kind: Kind, name: str) -> bool:
    """Whether one object may be read."""
    group = kind.api_version.rpartition("/")[0]
    return _answer(
        cluster, {"namespace": namespace, "verb": "get", "group": group, "resource": kind.plural, "name": name}
    )


def _answer(cluster: Cluster, attributes: Manifest) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((cluster.post_path(REVIEW, body).get("status") or {}).get("allowed"))
