"""Our client against a real API server that misbehaves: restarts, expired logins, throttling, two hands on one job.

`pytest -m cluster`. The server is this file's own, for it is stopped and starved.
"""

import base64
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import yaml
from api_requests import Api
from job_specs import job_spec
from real_api import ISSUER, RealApi, restartable_real_api

from lapa_k8s import client, following
from lapa_k8s.client import Cluster, StreamExpired
from lapa_k8s.errors import AccessDenied, ClusterError, NameTaken, Overtaken
from lapa_k8s.following import wait_for_end
from lapa_k8s.kinds import CONFIG_MAP, PYTORCHJOB
from lapa_k8s.names import CONTENT_ANNOTATION
from lapa_k8s.spec import JobSpec
from lapa_k8s.states import JobState, State
from lapa_k8s.submission import submit

pytestmark = pytest.mark.cluster
PATIENCE = 300
DONE = {"status": {"conditions": [{"type": "Succeeded", "status": "True", "message": "done"}]}}
CRD = Path(__file__).parent / "crds" / "pytorchjobs.yaml"
SPEC = job_spec().model_copy(update={"namespace": "default"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    with restartable_real_api(tmp_path_factory.mktemp("trouble")) as running:
        admin = Api(running.kubeconfigs["admin"])
        body = yaml.safe_load(CRD.read_text())
        assert admin.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body).code == 201
        until(lambda: admin.ask("GET", PYTORCHJOB.path("default")).code == 200)
        yield running


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def connect(kubeconfig: Path) -> Cluster:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        return Cluster.connect()


@pytest.fixture
def cluster(server: RealApi) -> Cluster:
    return connect(server.kubeconfigs["admin"])


@pytest.fixture
def job(cluster: Cluster) -> Iterator[JobSpec]:
    submit(cluster, SPEC)
    yield SPEC
    cluster.delete(PYTORCHJOB, "default", SPEC.name)
    cluster.delete(CONFIG_MAP, "default", SPEC.name)


@contextmanager
def waiting(cluster: Cluster, job: JobSpec) -> Iterator[list[JobState]]:
    """Somebody waits for the job while the block runs; ends when the job has succeeded."""
    seen: list[JobState] = []
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(wait_for_end, cluster, "default", job.name, timeout_seconds=PATIENCE, on_change=seen.append)
        until(lambda: bool(seen))
        yield seen
        assert end.result(timeout=PATIENCE).state is State.SUCCEEDED


def test_a_wait_outlives_a_server_that_crashes_and_has_forgotten_the_watch(
    server: RealApi, cluster: Cluster, job: JobSpec, monkeypatch: pytest.MonkeyPatch
):
    """A fresh server keeps no history: what the wait saw last is too old for it (410), so the job is read anew."""
    told: list[type] = []
    watch = cluster.watch

    def listened(*where: Any, **how: Any) -> Iterator[tuple[str, Any]]:
        try:
            yield from watch(*where, **how)
        except ClusterError as error:
            told.append(type(error))
            raise

    monkeypatch.setattr(cluster, "watch", listened)
    with waiting(cluster, job):
        server.stop()
        server.start()
        until(lambda: StreamExpired in told)
        connect(server.kubeconfigs["admin"]).patch(PYTORCHJOB, "default", job.name, DONE, part="status")


def test_a_wait_opens_its_watch_again_when_the_server_ends_it(
    cluster: Cluster, job: JobSpec, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(following, "WATCH_SECONDS", 1.0)
    opened: list[str] = []
    watch = cluster.watch
    monkeypatch.setattr(cluster, "watch", lambda *where, **how: opened.append(how["version"]) or watch(*where, **how))
    with waiting(cluster, job):
        until(lambda: len(opened) >= 3)
        cluster.patch(PYTORCHJOB, "default", job.name, DONE, part="status")


def login(server: RealApi, *, seconds: float) -> str:
    """A ServiceAccount's token, signed by the server's own key, that the server takes for so long."""
    admin = Api(server.kubeconfigs["admin"])
    account = admin.get("/api/v1/namespaces/default/serviceaccounts/researcher")
    now = time.time()
    leeway = 60  # of a minute is what Kubernetes lets clocks differ
    claims = {
        "iss": ISSUER, "aud": [ISSUER], "sub": "system:serviceaccount:default:researcher",
        "iat": round(now - 3600), "nbf": round(now - 3600), "exp": round(now - leeway + seconds),
        "kubernetes.io": {
            "namespace": "default",
            "serviceaccount": {"name": "researcher", "uid": account["metadata"]["uid"]},
        },
    }  # fmt: skip
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(server.key)], input=signed.encode(), capture_output=True, check=True
    )
    return f"{signed}.{encoded(done.stdout)}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def researcher(server: RealApi) -> str:
    """A ServiceAccount that may do everything in the namespace."""
    admin = Api(server.kubeconfigs["admin"])
    account: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "researcher"}}
    assert admin.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account).code == 201
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "researcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "researcher", "namespace": "default"}],
    }
    assert admin.ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).code == 201
    return "researcher"


def kubeconfig_with(server: RealApi, folder: Path, user: dict[str, Any]) -> Path:
    config = json.loads(server.kubeconfigs["admin"].read_text())
    config["users"][0]["user"] = user
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_an_expired_login_is_told_with_what_to_do(server: RealApi, researcher: str, tmp_path: Path):
    kubeconfig = kubeconfig_with(server, tmp_path, {"token": login(server, seconds=-60)})
    with pytest.raises(AccessDenied, match="Log in again"):
        submit(connect(kubeconfig), SPEC)
    assert connect(server.kubeconfigs["admin"]).find(CONFIG_MAP, "default", SPEC.name) is None


PLUGIN = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
names = sorted(folder.glob("token-*"))
token = names[0].read_text() if len(names) == 1 else names.pop(0).read_text()
if len(list(folder.glob("token-*"))) > 1:
    sorted(folder.glob("token-*"))[0].unlink()
seconds = float((folder / "seconds").read_text())
until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
status = {"token": token, "expirationTimestamp": until}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": status}))
"""
"""What `aws eks get-token` is: prints a token, the next one each time, and until when it holds."""


def test_a_wait_outlives_its_login_where_a_plugin_gets_the_next_one(
    server: RealApi, cluster: Cluster, researcher: str, job: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(following, "WATCH_SECONDS", 1.0)
    first = login(server, seconds=45)  # of which the wait must see a moment, on any machine
    (tmp_path / "token-1").write_text(first)
    (tmp_path / "token-2").write_text(login(server, seconds=3600))
    (tmp_path / "seconds").write_text("20")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": sys.executable,
        "args": [str(tmp_path / "plugin.py"), str(tmp_path)],
        "interactiveMode": "Never",
    }
    with waiting(connect(kubeconfig_with(server, tmp_path, {"exec": plugin})), job):
        old = Api(server.kubeconfigs["admin"], token=first)
        until(lambda: old.ask("GET", PYTORCHJOB.path("default")).code == 401)
        cluster.patch(PYTORCHJOB, "default", job.name, DONE, part="status")


def starve(server: RealApi, user: str) -> None:
    """Of this user's requests the server works on a few at a time and turns away the rest (429)."""
    admin = Api(server.kubeconfigs["admin"])
    limits = {"assuredConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
    anything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    rule = {"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [anything]}
    level = {"type": "Limited", "limited": limits}
    flow = {"priorityLevelConfiguration": {"name": "starved"}, "matchingPrecedence": 2, "rules": [rule]}
    for kind, spec in (("PriorityLevelConfiguration", level), ("FlowSchema", flow)):
        body = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1beta1", "kind": kind, "metadata": {"name": "starved"}}
        path = f"/apis/{body['apiVersion']}/{kind.lower()}s"
        answer = admin.ask("POST", path, {**body, "spec": spec})
        assert answer.code == 201, answer


@contextmanager
def slow_request(server: RealApi, token: str) -> Iterator[None]:
    """A request whose body never comes: the server works on it until the block ends."""
    place = urlparse(server.url)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    head = (
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\n{{"
    )
    with (
        socket.create_connection((place.hostname, place.port)) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as stream,
    ):
        stream.sendall(head.encode())
        yield


def test_a_throttled_request_is_sent_again_until_it_is_let_in(
    server: RealApi, researcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "PATIENCE", (1,) * PATIENCE)  # a slow machine needs long to free a seat
    starve(server, "system:serviceaccount:default:researcher")
    token = login(server, seconds=3600)
    probe = Api(server.kubeconfigs["admin"], token=token)
    cluster = connect(kubeconfig_with(server, tmp_path, {"token": token}))
    with ExitStack() as seats, ThreadPoolExecutor(1) as pool:

        def is_full() -> bool:
            """Takes one more seat where there is one; the server needs a moment to heed the limit."""
            if probe.ask("GET", CONFIG_MAP.path("default")).code == 429:
                return True
            seats.enter_context(slow_request(server, token))
            return False

        until(is_full)
        before = rejected(server)
        listing = pool.submit(cluster.select, CONFIG_MAP, "default")
        until(lambda: rejected(server) > before)
        assert not listing.done()
        seats.close()
        assert listing.result(timeout=PATIENCE) == []


def rejected(server: RealApi) -> float:
    """How many requests the server has turned away."""
    metrics = Api(server.kubeconfigs["admin"]).text("/metrics").splitlines()
    lines = [line for line in metrics if line.startswith("apiserver_flowcontrol_rejected_requests_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_of_many_who_submit_the_same_at_once_one_creates_it_and_all_have_it(server: RealApi, cluster: Cluster):
    hands = [connect(server.kubeconfigs["admin"]) for _ in range(8)]
    start = threading.Barrier(len(hands))

    def go(hand: Cluster) -> bool:
        start.wait()
        return submit(hand, SPEC).is_new

    with ThreadPoolExecutor(len(hands)) as pool:
        assert sorted(pool.map(go, hands)) == [False] * 7 + [True]
    owner = cluster.get(CONFIG_MAP, "default", SPEC.name)["metadata"]["ownerReferences"]
    assert [item["uid"] for item in owner] == [cluster.get(PYTORCHJOB, "default", SPEC.name)["metadata"]["uid"]]
    cluster.delete(PYTORCHJOB, "default", SPEC.name)
    cluster.delete(CONFIG_MAP, "default", SPEC.name)


def test_a_name_that_is_taken_is_told_and_left_as_it_is(cluster: Cluster, job: JobSpec):
    theirs = {"metadata": {"annotations": {CONTENT_ANNOTATION: "of-somebody-else"}}}
    cluster.patch(PYTORCHJOB, "default", job.name, theirs)
    before = cluster.get(PYTORCHJOB, "default", job.name)
    with pytest.raises(NameTaken, match="--new"):
        submit(cluster, job)
    assert cluster.get(PYTORCHJOB, "default", job.name) == before


def test_a_change_to_a_version_that_is_no_longer_the_last_is_refused_and_changes_nothing(
    cluster: Cluster, job: JobSpec
):
    stale = cluster.get(PYTORCHJOB, "default", job.name)["metadata"]["resourceVersion"]
    cluster.patch(PYTORCHJOB, "default", job.name, {"metadata": {"labels": {"seen": "first"}}})
    late = {"metadata": {"resourceVersion": stale, "labels": {"seen": "second"}}}
    with pytest.raises(Overtaken, match="somebody else changed it"):
        cluster.patch(PYTORCHJOB, "default", job.name, late)
    assert cluster.get(PYTORCHJOB, "default", job.name)["metadata"]["labels"]["seen"] == "first"


def test_a_job_that_took_the_place_of_ours_is_not_deleted(cluster: Cluster, job: JobSpec):
    with pytest.raises(Overtaken, match="somebody else changed it"):
        cluster.delete(PYTORCHJOB, "default", job.name, uid="of-the-one-before")
    uid = cluster.get(PYTORCHJOB, "default", job.name)["metadata"]["uid"]
    cluster.delete(PYTORCHJOB, "default", job.name, uid=uid)
    assert cluster.find(PYTORCHJOB, "default", job.name) is None
