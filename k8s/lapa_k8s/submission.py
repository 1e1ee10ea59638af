"""Sending a job, so that either all of it is there or nothing is."""

from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError, KindNotServed, NameTaken, NotFound
from lapa_k8s.kinds import CONFIG_MAP, JOB_KINDS, POD, PYTORCHJOB, TRAINJOB, Kind
from lapa_k8s.names import CONTENT_ANNOTATION, JOB_LABEL, TRACKING_ANNOTATION
from lapa_k8s.parts import Operator
from lapa_k8s.rendering.manifests import render
from lapa_k8s.spec import JobSpec
from lapa_k8s.states import JobState, state_of


class Submitted(NamedTuple):
    """A job that is on the cluster."""

    kind: str
    is_new: bool
    """False where this very job was there before."""
    state: JobState
    tracking_run_id: str | None
    """MLflow run that its submitter opened."""


def detect_operator(cluster: Cluster) -> Operator:
    """What the cluster serves, PyTorchJob first. Raises KindNotServed where it has neither operator."""
    if serves(cluster, PYTORCHJOB):
        return "pytorchjob"
    if serves(cluster, TRAINJOB):
        return "trainjob"
    raise KindNotServed(
        "the cluster serves neither PyTorchJob nor TrainJob, so it cannot run stages on several nodes. Ask the "
        "platform team for Kubeflow's training-operator or Trainer; --nodes 1 --operator job does without"
    )


def serves(cluster: Cluster, kind: Kind) -> bool:
    try:
        found = cluster.get_path(f"/apis/{kind.api_version}")
    except (NotFound, KindNotServed):
        return False
    return any(item.get("name") == kind.plural for item in found.get("resources") or [])


def check(cluster: Cluster, spec: JobSpec) -> None:
    """Server-side dry run: everything the server does but storing. Raises what it would refuse; a job that is there
    already was accepted once."""
    if find_submitted(cluster, spec) is not None:
        return
    manifests = render(spec)
    _create_config(cluster, manifests.config_map, spec, is_dry_run=True)
    cluster.create(JOB_KINDS[spec.operator], spec.namespace, manifests.job, is_dry_run=True)


def submit(cluster: Cluster, spec: JobSpec) -> Submitted:
    """Create a job and its configuration, or find that they are there.

    The configuration comes first, since pods could not start without it. It belongs to the job from then on, and is
    deleted with it. Whatever fails on the way, what was created here is removed again.
    """
    kind = JOB_KINDS[spec.operator]
    if (known := find_submitted(cluster, spec)) is not None:
        return known
    manifests = render(spec)
    made_config = _create_config(cluster, manifests.config_map, spec)
    job: Manifest | None = None
    try:
        job = cluster.create(kind, spec.namespace, manifests.job)
        cluster.patch(CONFIG_MAP, spec.namespace, spec.name, {"metadata": {"ownerReferences": [_owner(kind, job)]}})
    except BaseException:
        _undo(cluster, kind, spec, job is not None, made_config)
        raise
    return _submitted(kind, job, is_new=True, state=state_of({**job, "kind": kind.kind}, []))


def find_submitted(cluster: Cluster, spec: JobSpec) -> Submitted | None:
    """The job of an earlier submission of the same content. Raises NameTaken where the name is somebody else's."""
    kind = JOB_KINDS[spec.operator]
    existing = cluster.find(kind, spec.namespace, spec.name)
    if existing is None:
        return None
    if (existing["metadata"].get("annotations") or {}).get(CONTENT_ANNOTATION) != spec.content:
        raise NameTaken(
            f"{kind.kind} '{spec.name}' in namespace '{spec.namespace}' is somebody else's. "
            "Add --new for a name of its own"
        )
    pods = cluster.select(POD, spec.namespace, labels=f"{JOB_LABEL}={spec.name}")
    return _submitted(kind, existing, is_new=False, state=state_of(existing, pods))


def _submitted(kind: Kind, job: Manifest, *, is_new: bool, state: JobState) -> Submitted:
    annotations = job["metadata"].get("annotations") or {}
    return Submitted(kind.kind, is_new, state, annotations.get(TRACKING_ANNOTATION))


def _create_config(cluster: Cluster, config_map: Manifest, spec: JobSpec, *, is_dry_run: bool = False) -> bool:
    """Whether it was created here; one of the same content, left by a submission that broke off, is as good."""
    try:
        cluster.create(CONFIG_MAP, spec.namespace, config_map, is_dry_run=is_dry_run)
        return True
    except NameTaken:
        found = cluster.get(CONFIG_MAP, spec.namespace, spec.name)
        if found.get("data") == config_map["data"]:
            return False
        raise NameTaken(
            f"ConfigMap '{spec.name}' in namespace '{spec.namespace}' holds something else. "
            "Add --new for a name of its own"
        ) from None


def _owner(kind: Kind, job: Manifest) -> Manifest:
    metadata = job["metadata"]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "name": metadata["name"], "uid": metadata["uid"]}


def _undo(cluster: Cluster, kind: Kind, spec: JobSpec, made_job: bool, made_config: bool) -> None:
    for is_ours, made in ((made_job, kind), (made_config, CONFIG_MAP)):
        if is_ours:
            try:
                cluster.delete(made, spec.namespace, spec.name)
            except ClusterError:  # the first error is the one to tell; the same command finds and takes up the rest
                continue
