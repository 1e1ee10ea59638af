"""The chart's roles on a real API server: who may do what, by asking for all that there is. `pytest -m cluster`.

Each identity is what a cluster would see: a ServiceAccount by a token of its own, a group by acting for one of it.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import chart_rights
import pytest
from api_requests import Api, Object, Resource
from chart_rights import Table
from helm_chart import render
from installed_chart import Release
from job_specs import job_spec

from lapa_k8s.client import Cluster
from lapa_k8s.control import cancel, set_suspended
from lapa_k8s.errors import AccessDenied
from lapa_k8s.kinds import CONFIG_MAP, PYTORCHJOB
from lapa_k8s.records import gather, list_jobs
from lapa_k8s.submission import check, submit

pytestmark = pytest.mark.cluster

EVERYONE = {
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
    ("authentication.k8s.io", "selfsubjectreviews", "create"),
}
"""What Kubernetes itself lets whoever is logged in do: ask about oneself."""
METHODS = {
    "get": ("GET", True),
    "list": ("GET", False),
    "watch": ("GET", False),
    "create": ("POST", False),
    "update": ("PUT", True),
    "patch": ("PATCH", True),
    "delete": ("DELETE", True),
    "deletecollection": ("DELETE", False),
}
"""By verb: the method, and whether it is about one object."""
RECONCILING = ("reconciler.enabled=true", "reconciler.trackingSecret=mlflow-reader")
IDENTITIES: dict[str, tuple[Callable[[Api, str], Api], Table]] = {
    "submitter": (lambda api, namespace: api.as_account(namespace, "lapa-submitter"), chart_rights.SUBMITTER),
    "researchers": (lambda api, _: api.as_group("robotics-researchers"), chart_rights.SUBMITTER),
    "pipeline": (lambda api, namespace: api.as_account(namespace, "lapa-pipeline"), chart_rights.PIPELINE),
    "deployer": (lambda api, namespace: api.as_account(namespace, "lapa-deployer"), chart_rights.DEPLOYER),
    "reconciler": (lambda api, namespace: api.as_account(namespace, "lapa-reconciler"), chart_rights.RECONCILER),
    "executor": (lambda api, _: api.as_group("robotics-platform"), chart_rights.EXECUTOR),
    "runner": (lambda api, namespace: api.as_account(namespace, "lapa-runner"), chart_rights.NOTHING),
    "mlflow": (lambda api, namespace: api.as_account(namespace, "lapa-mlflow"), chart_rights.NOTHING),
}


@pytest.fixture(scope="module")
def admin(real_cluster: Cluster, kubeconfigs: dict[str, Path]) -> Api:
    return Api(kubeconfigs["admin"])


@pytest.fixture(scope="module")
def release(admin: Api) -> Iterator[Release]:
    """The production profile, which makes every role, in a namespace that also has a Secret."""
    name = f"roles-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert admin.ask("POST", "/api/v1/namespaces", body).code == 201
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "of-the-team"}, "stringData": {"a": "b"}}
    assert admin.ask("POST", f"/api/v1/namespaces/{name}/secrets", secret).code == 201
    made = Release(admin, name)
    made.install("production", *RECONCILING)
    yield made
    made.remove()


def what_there_is(admin: Api) -> list[Resource]:
    """Every resource once, and those of our tables that this server does not serve: rights come before routes."""
    served = {(item.group, item.name): item for item in admin.resources()}
    for _, table in IDENTITIES.values():
        for (group, name), verbs in table.items():
            served.setdefault((group, name), Resource(group, "v1beta1", name, "", frozenset(verbs), True))
    return list(served.values())


def may(api: Api, resource: Resource, verb: str, namespace: str) -> bool:
    """Whether a real request gets past the server's question of rights. Nothing changes: none names an object that is
    there, and those that write are dry runs."""
    method, has_name = METHODS[verb]
    named = namespace if resource.name.partition("/")[0] == "namespaces" else "nothing-there"
    path = resource.path(namespace, named if has_name or "/" in resource.name else "")
    query = {"watch": "?watch=1&timeoutSeconds=1", "get": "", "list": "?limit=1"}.get(verb, "?dryRun=All")
    body: Object | None = {} if method in ("POST", "PUT", "PATCH") else None
    kind_of_body = "application/merge-patch+json" if method == "PATCH" else ""
    answer = api.ask(method, path + query, body, kind_of_body=kind_of_body)
    assert answer.code != 401, answer
    is_refused = answer.code == 403 and "cannot" in answer.body["message"]
    assert is_refused or answer.code < 500 or "/" in resource.name, (path, answer)
    return not is_refused


def verbs_of(resource: Resource, table: Table) -> set[str]:
    return set(resource.verbs & METHODS.keys()) | set(table.get((resource.group, resource.name), ()))


@pytest.mark.parametrize("who", IDENTITIES)
def test_each_identity_may_do_what_its_table_says_and_is_refused_everything_else(
    who: str, admin: Api, release: Release
):
    identity, table = IDENTITIES[who]
    api = identity(admin, release.namespace)
    resources = what_there_is(admin)
    allowed = {
        (resource.group, resource.name, verb)
        for resource in resources
        for verb in verbs_of(resource, table)
        if may(api, resource, verb, release.namespace)
    }
    assert len(resources) > 80
    assert allowed - EVERYONE == {(group, name, verb) for (group, name), verbs in table.items() for verb in verbs}


@pytest.mark.parametrize("who", IDENTITIES)
def test_what_is_allowed_in_the_namespace_is_refused_in_another_and_across_all(who: str, admin: Api, release: Release):
    identity, table = IDENTITIES[who]
    api = identity(admin, release.namespace)
    asked = [
        (resource, verb, place)
        for resource in what_there_is(admin)
        for verb in {*table.get((resource.group, resource.name), ()), *({"get"} if resource.name == "secrets" else ())}
        for place in ("kube-system", "")
        if place or verb in ("list", "watch")
    ]
    assert asked
    assert [item for item in asked if may(api, *item)] == []


@pytest.mark.parametrize("who", IDENTITIES)
def test_nobody_becomes_somebody_else_or_reads_a_secret(who: str, admin: Api, release: Release):
    """Neither by a binding of one's own, nor by a token of another account."""
    identity, _ = IDENTITIES[who]
    api = identity(admin, release.namespace)
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{release.namespace}/rolebindings"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "more"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": "somebody", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    assert api.ask("POST", rbac, binding).code == 403
    token = f"/api/v1/namespaces/{release.namespace}/serviceaccounts/lapa-deployer/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    assert api.ask("POST", token, request).code == 403
    secrets = f"/api/v1/namespaces/{release.namespace}/secrets"
    assert admin.ask("GET", f"{secrets}/of-the-team").code == 200
    assert api.ask("GET", f"{secrets}/of-the-team").code == 403
    assert api.ask("GET", secrets).code == 403
    assert api.ask("GET", "/api/v1/nodes").code == 403


def cluster_as(account: str, admin: Api, release: Release, kubeconfig: Path, folder: Path, patch) -> Cluster:
    """Our own client with the token of one of the chart's ServiceAccounts."""
    config = json.loads(kubeconfig.read_text())
    config["users"] = [
        {"name": config["users"][0]["name"], "user": {"token": admin.token_of(release.namespace, account)}}
    ]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    patch.setenv("KUBECONFIG", str(path))
    return Cluster.connect()


@pytest.fixture
def own_server(kubeconfigs: dict[str, Path]) -> Path:
    if "stranger" not in kubeconfigs:
        pytest.skip("the kubeconfig of a cluster of one's own may log in otherwise than by a token")
    return kubeconfigs["admin"]


def test_the_submitters_account_takes_a_job_through_its_life(
    admin: Api, release: Release, own_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cluster = cluster_as("lapa-submitter", admin, release, own_server, tmp_path, monkeypatch)
    spec = job_spec().model_copy(update={"namespace": release.namespace})
    check(cluster, spec)
    assert submit(cluster, spec).is_new
    assert not submit(cluster, spec).is_new
    assert [item.job["metadata"]["name"] for item in list_jobs(cluster, release.namespace)] == [spec.name]
    for wanted in (True, False):
        set_suspended(cluster, release.namespace, spec.name, is_suspended=wanted)
    assert gather(cluster, release.namespace, spec.name).job["metadata"]["name"] == spec.name
    cancel(cluster, release.namespace, spec.name)
    assert cluster.find(PYTORCHJOB, release.namespace, spec.name) is None


def test_a_submitter_without_the_executors_role_is_told_of_it(
    admin: Api, release: Release, own_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cluster = cluster_as("lapa-submitter", admin, release, own_server, tmp_path, monkeypatch)
    with pytest.raises(AccessDenied, match="lapa-executor"):
        list(cluster.execute(release.namespace, "worker-0", container="pytorch", command=["ls"]))


def test_the_pipelines_account_submits_a_stage_and_undoes_it(
    admin: Api, release: Release, own_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cluster = cluster_as("lapa-pipeline", admin, release, own_server, tmp_path, monkeypatch)
    spec = job_spec().model_copy(update={"namespace": release.namespace})
    assert submit(cluster, spec).is_new
    cluster.delete(PYTORCHJOB, release.namespace, spec.name)
    cluster.delete(CONFIG_MAP, release.namespace, spec.name)
    assert cluster.find(CONFIG_MAP, release.namespace, spec.name) is None


def test_the_deployers_account_rolls_a_server_out_and_away(admin: Api, release: Release):
    api = admin.as_account(release.namespace, "lapa-deployer")
    deployment, service = server_of(release.namespace)
    deployments = f"/apis/apps/v1/namespaces/{release.namespace}/deployments"
    services = f"/api/v1/namespaces/{release.namespace}/services"
    assert api.ask("POST", deployments, deployment).code == 201
    assert api.ask("POST", services, service).code == 201
    scale = {"spec": {"replicas": 2}}
    patched = api.ask("PATCH", f"{deployments}/policy", scale, kind_of_body="application/merge-patch+json")
    assert patched.body["spec"]["replicas"] == 2
    assert [item["metadata"]["name"] for item in api.get(f"{services}?labelSelector=app=policy")["items"]] == ["policy"]
    for path in (f"{deployments}/policy", f"{services}/policy"):
        assert api.ask("DELETE", path).code == 200


def server_of(namespace: str) -> tuple[Object, Object]:
    labels = {"app": "policy"}
    metadata = {"name": "policy", "namespace": namespace, "labels": labels}
    pod = {"containers": [{"name": "server", "image": "registry.example/lapa-serve:0.1.0"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    ports = [{"port": 8000, "protocol": "TCP"}]
    return (
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}},
    )


def test_every_role_of_the_chart_is_among_the_identities_above():
    roles = {item["metadata"]["name"] for item in render("production", settings=RECONCILING) if item["kind"] == "Role"}
    assert roles == {"lapa-submitter", "lapa-pipeline", "lapa-deployer", "lapa-executor", "lapa-reconciler"}
