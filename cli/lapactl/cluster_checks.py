"""What `lapactl doctor --cluster` looks at, before any GPU is held. A check never raises: a problem is its result.

Asked from this machine, as its user. What only a pod can see is said, not guessed.
"""

from collections.abc import Callable
from typing import NamedTuple

from lapa.config.run import RunConfig
from lapa_k8s.access import PIPELINE, QUEUES, SUBMITTER, Right, may_get, missing_verbs
from lapa_k8s.client import Cluster
from lapa_k8s.errors import AccessDenied, ClusterError, ClusterUnreachable, KindNotServed, NotFound
from lapa_k8s.kinds import PYTORCHJOB, SECRET, SERVICE_ACCOUNT, TRAINJOB, Kind
from lapa_k8s.kubeconfig import context_namespace
from lapa_k8s.parts import Operator
from lapa_k8s.profile import ClusterProfile
from lapa_k8s.submission import serves
from lapactl.checks import Check, Status
from lapactl.cluster_kueue import check_kueue
from lapactl.cluster_pods import FIRST_JOB, check_image_pull
from lapactl.cluster_profile_checks import check_profile
from lapactl.cluster_quota import check_queue, check_resource_quotas
from lapactl.submit_settings import Settings

ROLE = "ask the platform team for the chart's role lapa-submitter in the namespace"
_MUST_BE_SEEN = ("permissions", "operators")
"""Where the answers to these are withheld, `submit` cannot work either."""
_AGAIN = "look at `kubectl cluster-info`, then repeat the command"


class Site(NamedTuple):
    """What is looked at."""

    cluster: Cluster
    profile: ClusterProfile
    run: RunConfig
    namespace: str
    nodes: int


def check_cluster(settings: Settings, *, nodes: int) -> list[Check]:
    """All checks, in the order in which one would repair; without an API those that need none."""
    profile = settings.cluster
    offline = check_profile(settings)
    try:
        cluster = Cluster.connect(profile.context)
        version = cluster.get_path("/version")
    except ClusterError as error:
        return [_verdict("api", "fail", error), *offline]
    namespace = profile.namespace or context_namespace(profile.context)
    site = Site(cluster, profile, settings.run, namespace, nodes)
    answers = Check("api", "ok", f"{cluster.host} answers, Kubernetes {version.get('gitVersion', '?')}")
    return [answers, *_asked(site), *offline]


def _asked(site: Site) -> list[Check]:
    """What the API answers to; once it is away, the rest is not asked."""
    checks: dict[str, Callable[[Site], list[Check]]] = {
        "namespace": _namespace, "permissions": _permissions, "operators": _operators, "queue": _queue,
        "accounts": _accounts, "secrets": _secrets, "image pull": _image_pull,
    }  # fmt: skip
    found: list[Check] = []
    away: ClusterUnreachable | None = None
    for name, check in checks.items():
        if away is not None:
            found.append(Check(name, "unseen", "not asked: the API went away meanwhile", _AGAIN))
            continue
        try:
            found += check(site)
        except ClusterUnreachable as error:
            found.append(_verdict(name, "fail", error))
            away = error
        except AccessDenied as error:
            found.append(_verdict(name, "fail" if name in _MUST_BE_SEEN else "unseen", error))
        except ClusterError as error:  # whatever it is, it is this check's answer
            found.append(_verdict(name, "fail", error))
        except Exception as error:  # an answer that no API server gives: a proxy, a quota that is no number
            words = f"the API's answer is not understood ({type(error).__name__}: {error})"
            found.append(Check(name, "fail", words, f"see what answers there: kubectl get pods -n {site.namespace}"))
    return found


def _verdict(name: str, status: Status, error: ClusterError) -> Check:
    """Our errors end with the next move; it is the remedy."""
    words, _, remedy = str(error).rpartition(". ")
    return Check(name, status, words, remedy) if words else Check(name, status, remedy, _AGAIN)


def _namespace(site: Site) -> list[Check]:
    try:
        labels = site.cluster.get_path(f"/api/v1/namespaces/{site.namespace}")["metadata"].get("labels") or {}
    except AccessDenied:
        return [Check("namespace", "unseen", f"'{site.namespace}' may not be looked at", "the checks below say more")]
    except NotFound:
        return [Check("namespace", "fail", f"there is no namespace '{site.namespace}'", "create it, or set namespace")]
    level = labels.get("pod-security.kubernetes.io/enforce")
    return [Check("namespace", "ok", f"'{site.namespace}', Pod Security level {level or 'not set'}")]


def _permissions(site: Site) -> list[Check]:
    """Per verb, as the API's own answer; kinds that are not served are no question of rights."""
    rights = [*SUBMITTER, *(QUEUES if site.profile.scheduling.queue else ())]
    asked = [right for right in rights if _is_served(site.cluster, right)]
    missing = {right.words: verbs for right in asked if (verbs := missing_verbs(site.cluster, site.namespace, right))}
    total = sum(len(right.verbs) for right in asked)
    if missing:
        words = "; ".join(f"{what}: {', '.join(verbs)}" for what, verbs in missing.items())
        return [Check("permissions", "fail", f"you may not, in '{site.namespace}': {words}", ROLE)]
    return [Check("permissions", "ok", f"all {total} that submit and jobs need in '{site.namespace}'")]


def _is_served(cluster: Cluster, right: Right) -> bool:
    kind = {"pytorchjobs": PYTORCHJOB, "trainjobs": TRAINJOB}.get(right.resource)
    return kind is None or serves(cluster, kind)


def _operators(site: Site) -> list[Check]:
    has = {kind.kind: serves(site.cluster, kind) for kind in (PYTORCHJOB, TRAINJOB)}
    words = ", ".join(f"{kind} {'served' if served else 'not served'}" for kind, served in has.items())
    wanted, chosen = site.profile.operator, _operator(site)
    remedy = "ask the platform team for Kubeflow's training-operator 1.9 or Trainer 2.2 and later"
    if not any(has.values()):
        status: Status = "fail" if site.nodes > 1 or wanted != "auto" else "warn"
        return [Check("operators", status, f"{words}: stages run on one node only", remedy)]
    if not has["PyTorchJob" if chosen == "pytorchjob" else "TrainJob"]:
        return [Check("operators", "fail", f"{words}; the profile says operator: {wanted}", f"{remedy}, or set auto")]
    versions = f"kubeflow.org {_versions(site.cluster, 'kubeflow.org')}, "
    versions += f"trainer.kubeflow.org {_versions(site.cluster, 'trainer.kubeflow.org')}"
    found = [Check("operators", "ok", f"{words} ({versions}); {chosen} is used")]
    return [*found, *(_runtime(site) if chosen == "trainjob" else [])]


def _operator(site: Site) -> Operator:
    """Who would run a job of several nodes."""
    wanted = site.profile.operator
    return wanted if wanted != "auto" else "pytorchjob" if serves(site.cluster, PYTORCHJOB) else "trainjob"


def _versions(cluster: Cluster, group: str) -> str:
    try:
        served = cluster.get_path(f"/apis/{group}").get("versions") or []
    except (NotFound, KindNotServed):
        return "none"
    return "+".join(item["version"] for item in served) or "none"


def _runtime(site: Site) -> list[Check]:
    ref = site.profile.runtime
    if ref.kind == "ClusterTrainingRuntime":
        path = f"/apis/{TRAINJOB.api_version}/clustertrainingruntimes/{ref.name}"
    else:
        path = Kind(TRAINJOB.api_version, ref.kind, "trainingruntimes").path(site.namespace, ref.name)
    try:
        site.cluster.get_path(path)
    except AccessDenied:
        return [Check("runtime", "unseen", f"{ref.kind} '{ref.name}' may not be looked at", FIRST_JOB)]
    except (NotFound, KindNotServed):
        remedy = "install the chart helm/lapa, or set runtime in the cluster profile"
        return [Check("runtime", "fail", f"there is no {ref.kind} '{ref.name}'", remedy)]
    return [Check("runtime", "ok", f"{ref.kind} '{ref.name}'")]


def _queue(site: Site) -> list[Check]:
    kueue, queue = _versions(site.cluster, "kueue.x-k8s.io"), site.profile.scheduling.queue
    found = [check_queue(site.cluster, site.profile, site.namespace, nodes=site.nodes, kueue=kueue)]
    if queue is not None and kueue != "none":
        found.append(check_kueue(site.cluster, site.namespace, operator=_operator(site), queue=queue))
    return [*found, *check_resource_quotas(site.cluster, site.profile, site.namespace, nodes=site.nodes)]


def _accounts(site: Site) -> list[Check]:
    rights = "; ".join(f"{right.words}: {', '.join(right.verbs)}" for right in PIPELINE)
    pods, driver = site.profile.service_account, site.profile.pipeline_service_account
    remedy = "install the chart helm/lapa, or name another in the cluster profile"
    default = Check("service account", "ok", "none named: pods have the namespace's default")
    return [
        _account(site, "service account", pods, missing=("fail", remedy)) if pods else default,
        _account(
            site, "pipeline account", driver, missing=("warn", f"`submit pipeline` needs it, with {rights}; {remedy}")
        ),
    ]


def _account(site: Site, check: str, name: str, *, missing: tuple[Status, str]) -> Check:
    try:
        if site.cluster.is_there(SERVICE_ACCOUNT, site.namespace, name):
            return Check(check, "ok", f"ServiceAccount '{name}' is there")
    except AccessDenied:
        return Check(check, "unseen", f"ServiceAccount '{name}' may not be looked at", FIRST_JOB)
    status, remedy = missing
    return Check(check, status, f"there is no ServiceAccount '{name}'", remedy)


def _secrets(site: Site) -> list[Check]:
    """By name alone: a Secret's values are never asked for."""
    profile = site.profile
    named = {
        "storage.secret": profile.storage.secret,
        "tracking.secret": profile.tracking.secret,
        **{f"secrets.{name}": key.secret for name, key in profile.secrets.items()},
        **{f"pull secret {number}": name for number, name in enumerate(profile.images.pull_secrets, start=1)},
    }
    found = [_secret(site, where, name) for where, name in named.items() if name]
    if profile.storage.secret is None and site.run.work_url.startswith("s3://"):
        words = f"no secret named: pods reach {site.run.work_url} by the cloud identity of their ServiceAccount"
        has_identity = profile.service_account is not None
        remedy = "set storage.secret, or service_account with cloud identity"
        found.append(Check("s3 access", "ok" if has_identity else "warn", words, "" if has_identity else remedy))
    return found


def _secret(site: Site, where: str, name: str) -> Check:
    if not may_get(site.cluster, site.namespace, SECRET, name):
        return Check(where, "unseen", f"Secret '{name}' may not be looked at, as it should be", FIRST_JOB)
    if site.cluster.is_there(SECRET, site.namespace, name):
        return Check(where, "ok", f"Secret '{name}' is there; its values were not asked for")
    return Check(where, "fail", f"there is no Secret '{name}' in '{site.namespace}'", "create it, or name another")


def _image_pull(site: Site) -> list[Check]:
    return [check_image_pull(site.cluster, site.namespace, site.profile.images.train)]
