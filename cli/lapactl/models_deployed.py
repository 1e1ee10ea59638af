"""Which deployments serve some versions: those of this machine, and those of the cluster that a profile names.

Deployments say what they run by the digest of its bundle. Whatever cannot be looked at is said, since its absence from
the answer proves nothing.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.deployment import Pinned
from lapa_k8s.errors import ClusterError, KindNotServed
from lapa_k8s.kinds import INFERENCE_SERVICE
from lapa_k8s.names import DIGEST_ANNOTATION, MANAGED_SELECTOR, MODEL_ANNOTATION, VERSION_ANNOTATION
from lapa_k8s.rollout_cluster import ClusterTarget
from lapactl.deploy_local import LocalTarget, state_folder
from lapactl.deploy_places import AnyTarget, namespace_of
from lapactl.profiles import BUILT_IN
from lapactl.submit_settings import Flag, resolve_cluster

COLUMNS = ["deployment", "target", "namespace", "model", "version", "state"]


class Deployed(NamedTuple):
    """A version that a deployment serves, or keeps warm to go back to."""

    deployment: str
    target: str
    namespace: str | None
    model: str
    version: int
    digest: str
    state: str


@dataclass
class Looked:
    """What runs, and what could not be looked at and why."""

    found: list[Deployed] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    """A sentence each."""

    def serving(self, digests: Collection[str]) -> list[Deployed]:
        """Those of the deployments that serve one of these bundles."""
        return [item for item in self.found if item.digest in digests]

    def note_unknown(self, is_known: Callable[[str], bool]) -> None:
        """Say which deployments serve what the registry cannot trace back."""
        for item in self.found:
            if not is_known(item.digest):
                what = f"{item.deployment} serves {item.model}/{item.version} ({item.digest[:12]})"
                self.unseen.append(f"not known: {what}, and this registry does not say what that was made from")


def look(cluster: str | None, namespace: str | None, state: str | None) -> Looked:
    """At this machine always; at a cluster where a profile or a namespace is named. Raises ConfigError."""
    looked = Looked()
    _look_at(looked, LocalTarget(state_folder(state)), "this machine")
    flags = [Flag("--namespace", "cluster.namespace", namespace)] if namespace else []
    chosen = resolve_cluster(cluster, flags=flags)
    if chosen.name == BUILT_IN and namespace is None:
        looked.unseen.append("not looked at: deployments of a cluster, for no profile is named; add --cluster NAME")
        return looked
    place = namespace_of(chosen.profile)
    where = f"namespace '{place}' of cluster '{chosen.name}'"
    try:
        connected = Cluster.connect(chosen.profile.context)
        _look_at(looked, ClusterTarget(connected, place), where)
        looked.found += _of_kserve(connected, place)
    except (ClusterError, ValueError) as error:  # a version that is no number is a ValueError
        looked.unseen.append(f"not looked at: {where}: {error}")
    return looked


def _look_at(looked: Looked, target: AnyTarget, where: str) -> None:
    """A damaged record of one deployment hides no other. Raises ClusterError where the target is away."""
    try:
        names = target.names()
    except OSError as error:
        looked.unseen.append(f"not looked at: {where}: {error}")
        return
    for name in names:
        try:
            looked.found += _of_record(target, name)
        except (ClusterError, OSError, ValueError, KeyError) as error:
            looked.unseen.append(f"not looked at: deployment '{name}' of {where}: {error}")


def _of_record(target: AnyTarget, name: str) -> list[Deployed]:
    held = target.read(name)
    if held is None:  # it is still being made
        return []
    record = held.record
    warm = {item.name: item.pinned for item in record.history if item.name in record.kept}
    warm.pop(record.active.name, None)
    served = [_deployed(target, name, record.active.pinned, "active")]
    return [*served, *(_deployed(target, name, pinned, "warm") for pinned in warm.values())]


def _deployed(target: AnyTarget, name: str, pinned: Pinned, state: str) -> Deployed:
    place: dict[str, Any] = target.place
    return Deployed(name, place["target"], place["namespace"], pinned.model, pinned.version, pinned.digest, state)


def _of_kserve(cluster: Cluster, namespace: str) -> list[Deployed]:
    """KServe keeps no record of ours; its objects say which version they were made for."""
    try:
        services = cluster.select(INFERENCE_SERVICE, namespace, labels=MANAGED_SELECTOR)
    except KindNotServed:
        return []
    return [_of_service(item, namespace) for item in services]


def _of_service(service: Manifest, namespace: str) -> Deployed:
    metadata = service["metadata"]
    said = metadata.get("annotations") or {}
    version = int(said.get(VERSION_ANNOTATION) or 0)
    model, digest = str(said.get(MODEL_ANNOTATION)), str(said.get(DIGEST_ANNOTATION))
    return Deployed(str(metadata["name"]), "kserve", namespace, model, version, digest, "active")


def rows_of(found: Sequence[Deployed]) -> list[dict[str, Any]]:
    return [item._asdict() for item in found]
