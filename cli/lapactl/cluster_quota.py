"""Whether a queue and a namespace could ever give the GPUs that a job asks for; pure but for reading them."""

from collections.abc import Sequence

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import AccessDenied, KindNotServed, NotFound, QuotaExceeded
from lapa_k8s.kinds import LOCAL_QUEUES, RESOURCE_QUOTA
from lapa_k8s.parts import NodeShape
from lapa_k8s.profile import ClusterProfile
from lapactl.checks import Check

QUEUE_REMEDY = "Name another by --queue or in the cluster profile: kubectl get localqueues"


def check_queue(cluster: Cluster, profile: ClusterProfile, namespace: str, *, nodes: int, kueue: str) -> Check:
    """`kueue`: the versions of its API that are served, `none` without it."""
    name, node = profile.scheduling.queue, profile.gpu_node
    if name is None:
        return Check("queue", "ok", f"none named: jobs start as soon as their pods fit (Kueue's API: {kueue})")
    try:
        behind, queue = cluster_queue_of(cluster, namespace, name)
    except AccessDenied:
        words = f"LocalQueue '{name}' or the ClusterQueue behind it may not be looked at"
        return Check("queue", "unseen", words, "a job that waits tells: lapactl jobs why JOB")
    except (KindNotServed, NotFound) as error:
        words, _, remedy = str(error).partition(". ")
        return Check("queue", "fail", words, remedy)
    for condition in (queue.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Active" and condition.get("status") == "False":
            words = f"ClusterQueue '{behind}' is not active: {condition.get('message')}"
            return Check("queue", "fail", words, "ask the platform team")
    return _judge(name, behind, queue.get("spec") or {}, node, nodes)


def refuse_hopeless_queue(cluster: Cluster, namespace: str, name: str | None, node: NodeShape, *, nodes: int) -> None:
    """Raises KindNotServed or NotFound where there is no such queue, and QuotaExceeded where it will never admit so
    many nodes; what may not be looked at is no reason to refuse."""
    if name is None:
        return
    try:
        behind, queue = cluster_queue_of(cluster, namespace, name)
    except AccessDenied:
        return
    judged = _judge(name, behind, queue.get("spec") or {}, node, nodes)
    if judged.status == "fail":
        raise QuotaExceeded(f"queue {judged.found}. {judged.remedy[:1].upper()}{judged.remedy[1:]}")


def cluster_queue_of(cluster: Cluster, namespace: str, name: str) -> tuple[str, Manifest]:
    """Name and object of the ClusterQueue behind a LocalQueue. Raises KindNotServed, NotFound, AccessDenied."""
    for kind in LOCAL_QUEUES:
        try:
            local = cluster.get(kind, namespace, name)
        except KindNotServed:
            continue
        except NotFound:
            raise NotFound(f"there is no LocalQueue '{name}' in '{namespace}'. {QUEUE_REMEDY}") from None
        behind = str((local.get("spec") or {}).get("clusterQueue"))
        try:
            return behind, cluster.get_path(f"/apis/{kind.api_version}/clusterqueues/{behind}")
        except NotFound:
            words = f"LocalQueue '{name}' leads to ClusterQueue '{behind}', which is not there"
            raise NotFound(f"{words}. Ask the platform team") from None
    raise KindNotServed(f"queue '{name}' is named and the cluster has no Kueue. {QUEUE_REMEDY}")


def _judge(name: str, behind: str, spec: Manifest, node: NodeShape, nodes: int) -> Check:
    wanted, resource = nodes * node.gpus, node.gpu_resource
    if wanted == 0:
        return Check("queue", "ok", f"'{name}' -> '{behind}'")
    flavors = nominal_quotas(spec, resource)
    if not flavors:
        return Check("queue", "fail", f"'{name}' -> '{behind}' has no quota for {resource}", QUEUE_REMEDY)
    # All pods of a job's one pod set get the same flavor: quotas of several do not add up.
    most = max(flavors)
    words = f"'{name}' -> '{behind}': {most} {resource} nominal in its largest flavor; {_words(nodes, wanted)}"
    if wanted <= most:
        return Check("queue", "ok", words)
    if cohort := spec.get("cohort") or spec.get("cohortName"):
        return Check("queue", "warn", f"{words}; more must be borrowed from cohort '{cohort}'", "ask for fewer --nodes")
    return Check("queue", "fail", f"{words}, which it will never admit", "ask for fewer --nodes, or another --queue")


def _words(nodes: int, wanted: int) -> str:
    return f"{nodes} {'node' if nodes == 1 else 'nodes'} ask for {wanted}"


def nominal_quotas(spec: Manifest, resource: str) -> list[int]:
    """Of each flavor that covers the resource."""
    return [
        int(item["nominalQuota"])
        for group in spec.get("resourceGroups") or []
        for flavor in group.get("flavors") or []
        for item in flavor.get("resources") or []
        if item.get("name") == resource and str(item.get("nominalQuota", "")).isdigit()
    ]


def check_resource_quotas(cluster: Cluster, profile: ClusterProfile, namespace: str, *, nodes: int) -> list[Check]:
    """Kubernetes' own quotas on GPUs, where the namespace has any."""
    try:
        quotas = cluster.select(RESOURCE_QUOTA, namespace)
    except AccessDenied:
        remedy = "where one has no room, `submit` is refused and says so"
        return [Check("quota", "unseen", "ResourceQuotas may not be looked at", remedy)]
    wanted, key = nodes * profile.gpu_node.gpus, f"requests.{profile.gpu_node.gpu_resource}"
    limits = _limits(quotas, key)
    if not limits:
        return [Check("quota", "ok", f"no ResourceQuota limits {key}")]
    name, hard, used = min(limits, key=lambda limit: limit[1])
    words = f"ResourceQuota '{name}': {used} of {hard} {key} in use; {_words(nodes, wanted)}"
    if wanted > hard:
        return [Check("quota", "fail", f"{words}, which it will never allow", "ask for fewer --nodes, or more quota")]
    if wanted > hard - used:
        return [Check("quota", "warn", words, "its pods wait until others end: lapactl jobs list")]
    return [Check("quota", "ok", words)]


def _limits(quotas: Sequence[Manifest], key: str) -> list[tuple[str, int, int]]:
    """Name, hard limit and use of the quotas that limit something."""
    found = []
    for quota in quotas:
        hard = ((quota.get("spec") or {}).get("hard") or {}).get(key)
        if hard is not None:
            used = ((quota.get("status") or {}).get("used") or {}).get(key, 0)
            found.append((str(quota["metadata"]["name"]), int(hard), int(used)))
    return found
