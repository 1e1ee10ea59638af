"""Sending a job, so that either all of it is there or nothing is."""

import uuid
from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError, KindNotServed, NameTaken, NotFound
from lapa_k8s.kinds import CONFIG_MAP, POD, PYTORCHJOB, TRAINJOB, Kind, kind_of
from lapa_k8s.names import CONTENT_ANNOTATION, JOB_LABEL, SUBMISSION_ANNOTATION, TRACKING_ANNOTATION
from lapa_k8s.parts import Operator
from lapa_k8s.rendering.manifests import Submission, render
from lapa_k8s.spec import JobSpec
from lapa_k8s.states import JobState, State, state_of


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
    check_manifests(cluster, render(spec))


def check_manifests(cluster: Cluster, manifests: Submission) -> None:
    """The same, of what is rendered already."""
    if find_sent(cluster, manifests) is not None:
        return
    _create_config(cluster, manifests.config_map, is_dry_run=True)
    cluster.create(kind_of(manifests.job), namespace_of(manifests), manifests.job, is_dry_run=True)


def submit(cluster: Cluster, spec: JobSpec) -> Submitted:
    """Create a job and its configuration, or find that they are there."""
    return send(cluster, render(spec))


def send(cluster: Cluster, manifests: Submission) -> Submitted:
    """Create what is rendered, or find that it is there.

    The configuration comes first, since pods could not start without it. It belongs to the job from then on, and is
    deleted with it. Whatever fails on the way, what was created here is removed again, as far as the server answers.
    """
    if (known := find_sent(cluster, manifests)) is not None:
        return known
    kind, namespace, name = kind_of(manifests.job), namespace_of(manifests), name_of(manifests)
    submission = uuid.uuid4().hex
    made_config = _create_config(cluster, manifests.config_map)
    try:
        try:
            job = cluster.create(kind, namespace, _of_submission(manifests.job, submission))
        except NameTaken:
            if (known := find_sent(cluster, manifests)) is not None:
                return known  # somebody submitted the very same meanwhile; the configuration is theirs now
            raise
        cluster.patch(CONFIG_MAP, namespace, name, {"metadata": {"ownerReferences": [_owner(kind, job)]}})
    except BaseException:
        _undo(cluster, manifests, submission, made_config)
        raise
    return _submitted(kind, job, is_new=True, state=state_of({**job, "kind": kind.kind}, []))


def find_submitted(cluster: Cluster, spec: JobSpec) -> Submitted | None:
    """The job of an earlier submission of the same content. Raises NameTaken where the name is somebody else's."""
    return find_sent(cluster, render(spec))


def is_there(cluster: Cluster, spec: JobSpec) -> bool | None:
    """Whether this very job is on the cluster and stays there; None where the server does not say."""
    try:
        found = find_submitted(cluster, spec)
    except (NameTaken, KindNotServed):
        return False
    except ClusterError:
        return None
    return found is not None and found.state.state is not State.DELETING


def find_sent(cluster: Cluster, manifests: Submission) -> Submitted | None:
    """The same, of what is rendered already."""
    kind, namespace, name = kind_of(manifests.job), namespace_of(manifests), name_of(manifests)
    existing = cluster.find(kind, namespace, name)
    if existing is None:
        return None
    if (existing["metadata"].get("annotations") or {}).get(CONTENT_ANNOTATION) != _content_of(manifests):
        raise NameTaken(
            f"{kind.kind} '{name}' in namespace '{namespace}' is somebody else's. Add --new for a name of its own"
        )
    pods = cluster.select(POD, namespace, labels=f"{JOB_LABEL}={name}")
    return _submitted(kind, existing, is_new=False, state=state_of(existing, pods))


def name_of(manifests: Submission) -> str:
    return str(manifests.job["metadata"]["name"])


def namespace_of(manifests: Submission) -> str:
    return str(manifests.job["metadata"]["namespace"])


def _content_of(manifests: Submission) -> str:
    return str(manifests.job["metadata"]["annotations"][CONTENT_ANNOTATION])


def _submitted(kind: Kind, job: Manifest, *, is_new: bool, state: JobState) -> Submitted:
    annotations = job["metadata"].get("annotations") or {}
    return Submitted(kind.kind, is_new, state, annotations.get(TRACKING_ANNOTATION))


def _of_submission(job: Manifest, submission: str) -> Manifest:
    metadata = job["metadata"]
    annotations = {**metadata["annotations"], SUBMISSION_ANNOTATION: submission}
    return {**job, "metadata": {**metadata, "annotations": annotations}}


def _create_config(cluster: Cluster, config_map: Manifest, *, is_dry_run: bool = False) -> Manifest | None:
    """What was created; None where one of the same content, left by a submission that broke off, is as good."""
    namespace, name = config_map["metadata"]["namespace"], config_map["metadata"]["name"]
    try:
        return cluster.create(CONFIG_MAP, namespace, config_map, is_dry_run=is_dry_run)
    except NameTaken:
        found = cluster.get(CONFIG_MAP, namespace, name)
        if found.get("data") == config_map["data"]:
            return None
        raise NameTaken(
            f"ConfigMap '{name}' in namespace '{namespace}' holds something else. Add --new for a name of its own"
        ) from None


def _owner(kind: Kind, job: Manifest) -> Manifest:
    metadata = job["metadata"]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "name": metadata["name"], "uid": metadata["uid"]}


def _undo(cluster: Cluster, manifests: Submission, submission: str, made_config: Manifest | None) -> None:
    """Remove what this submission created, and nothing of anybody else.

    The server is asked what there is: who was stopped while it was asked, or lost its answer, does not know. The
    configuration stays where a job may need it: somebody else's, or one that could not be looked at or deleted.
    """
    kind, namespace, name = kind_of(manifests.job), namespace_of(manifests), name_of(manifests)
    try:
        if (job := cluster.find(kind, namespace, name)) is not None:
            if (job["metadata"].get("annotations") or {}).get(SUBMISSION_ANNOTATION) != submission:
                return
            cluster.delete(kind, namespace, name, uid=job["metadata"]["uid"])
        if made_config is not None:
            # Of that version: once somebody else's job owns it, it is theirs.
            cluster.delete(CONFIG_MAP, namespace, name, version=made_config["metadata"]["resourceVersion"])
    except ClusterError:  # the first error is the one to tell; the same command finds and takes up the rest
        return
