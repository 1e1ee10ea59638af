"""What `lapactl doctor --cluster` says of a profile without asking the cluster's API."""

import urllib.request
from collections.abc import Iterator
from urllib.parse import urlparse

from lapa_k8s.image_reference import parse_reference
from lapa_k8s.profile import ClusterProfile
from lapactl.checks import Check, Status, check_sources, check_work, words_of
from lapactl.submit_job import obstacles_of
from lapactl.submit_settings import Settings


def check_profile(settings: Settings) -> list[Check]:
    """What would keep any job from working, the image, MLflow, and what only a pod can find out."""
    profile = settings.cluster
    return [*_run(settings), *_storage(settings), _image(profile), _mlflow(settings), *_unseen(profile)]


def _storage(settings: Settings) -> Iterator[Check]:
    """With this machine's rights: those of the pods are their own, so a problem is a warning."""
    run = settings.run
    if "://" not in run.work_url:
        return  # said already: no pod sees this machine's folders
    for check in (check_work(run), *check_sources(run)):
        name = f"storage: {check.check}"
        if check.status == "ok":
            yield Check(name, "ok", f"{check.found} from here; pods have rights of their own")
        else:
            remedy = f"{check.remedy}; pods have rights of their own"
            yield Check(name, "warn", f"not from here: {check.found}", remedy)


def _run(settings: Settings) -> Iterator[Check]:
    """A warning, since another run may be submitted there; `submit` refuses this one until then."""
    for obstacle in obstacles_of(settings.run, settings.cluster):
        words, _, remedy = obstacle.partition(". ")
        yield Check("run", "warn", words, remedy)


def _image(profile: ClusterProfile) -> Check:
    image = profile.images.train
    reference = parse_reference(image)
    if reference is None:
        return Check("image", "fail", f"'{image}' is no image reference", "write registry/name:tag or …@sha256:…")
    registry = reference.registry or ""
    is_named = "." in registry or ":" in registry or registry == "localhost"
    remarks = [] if is_named else ["names no registry, so nodes look in Docker Hub unless they have it"]
    if not reference.digest:
        moving = reference.tag in (None, "latest")
        remarks.append("names a tag that moves" if moving else "is not named by digest")
    status: Status = "warn" if remarks else "ok"
    remedy = "set images.train=registry/name@sha256:…: a restart then runs what the first start ran"
    words = f"'{image}' {' and '.join(remarks)}" if remarks else f"'{image}'"
    return Check("image", status, f"{words}; whether nodes can pull it, a pod tells", remedy if remarks else "")


def _mlflow(settings: Settings) -> Check:
    uri = settings.run.tracking.uri or settings.cluster.tracking.uri
    if not settings.run.tracking.enabled:
        return Check("mlflow", "ok", "tracking is switched off (tracking.enabled)")
    if uri is None:
        return Check("mlflow", "warn", "no server is named", "set tracking.uri in the cluster profile")
    host = urlparse(uri).hostname or ""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
            return Check("mlflow", "ok", f"{uri} answers {answer.status} from here; pods may see it differently")
    except Exception as error:  # whatever is at that address may answer anything
        is_inside = "." not in host or host.endswith((".svc", ".cluster.local"))
        where = "a name inside the cluster, which only pods know" if is_inside else "pods may see it differently"
        remedy = "check tracking.uri and that the server runs; a server that only pods reach is no mistake"
        return Check("mlflow", "warn", f"{uri} does not answer from here ({words_of(error)}): {where}", remedy)


def _unseen(profile: ClusterProfile) -> list[Check]:
    """What only a pod on such a node can find out, and how."""
    shape = profile.gpu_node
    shm = Check(
        "shared memory", "unseen",
        f"pods mount {shape.shared_memory_gib} GiB at /dev/shm",
        "in a running job: lapactl jobs exec JOB -- df -h /dev/shm",
    )  # fmt: skip
    if not shape.rdma:
        return [shm]
    memlock = Check(
        "memlock", "unseen",
        "RDMA needs unlimited locked memory, or NCCL falls back to TCP",
        "in a running job: lapactl jobs exec JOB -- bash -c 'ulimit -l'; nodes need LimitMEMLOCK=infinity",
    )  # fmt: skip
    return [shm, memlock]
