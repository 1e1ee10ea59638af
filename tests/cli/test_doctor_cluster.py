"""`lapactl doctor --cluster` against a fake cluster; what a real one answers is proved in `tests/k8s`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi, running_fake_api, status

from lapa_k8s.names import MANAGED_LABELS
from lapactl.checks import Check, check_work
from lapactl.cluster_quota import nominal_quotas

PROFILE = """
namespace: team
images: {{train: "{image}"}}
tracking: {{uri: "http://127.0.0.1:9"}}
scheduling: {{queue: research}}
settings: {{work_url: "s3://team/lapa"}}
"""
QUEUES = "/apis/kueue.x-k8s.io"


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers; a test that asks a real store says so."""
    monkeypatch.setattr("lapactl.cluster_profile_checks.check_work", lambda run: Check("work folder", "ok", "there"))
    monkeypatch.setattr("lapactl.cluster_profile_checks.check_sources", lambda run: [])


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    write_profile(tmp_path)
    return tmp_path


def write_profile(folder: Path, image: str = "registry.example/lapa-train@sha256:" + "0" * 64) -> None:
    path = folder / "config" / "lapa" / "clusters" / "prod.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PROFILE.format(image=image))


@pytest.fixture
def fake_api(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """A cluster where everything is allowed, with a queue of 16 GPUs."""
    monkeypatch.setattr("lapa_k8s.client.PATIENCE", (0.01,))
    with running_fake_api(project) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        api.served |= {"localqueues", "resourcequotas", "serviceaccounts", "secrets"}
        quota = {"name": "nvidia.com/gpu", "nominalQuota": "16"}
        cluster_queue = {"spec": {"resourceGroups": [{"flavors": [{"name": "h100", "resources": [quota]}]}]}}
        answers: dict[tuple[str, str], Any] = {
            ("GET", "/version"): (200, {"gitVersion": "v1.34.0"}),
            ("GET", "/api/v1/namespaces/team"): (200, {"metadata": {"labels": {}}}),
            ("GET", f"{QUEUES}"): (200, {"versions": [{"version": "v1beta2"}]}),
            ("GET", f"{QUEUES}/v1beta2/clusterqueues/gpus"): (200, cluster_queue),
            ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"): (201, {"status": {"allowed": True}}),
        }
        api.rules.append(lambda method, path, _: answers.get((method, path)))
        api.put(f"{QUEUES}/v1beta2/namespaces/team/localqueues/research", {"spec": {"clusterQueue": "gpus"}})
        yield api


@pytest.fixture
def doctor(lapactl):
    def call(*options: object) -> tuple[int, dict[str, dict[str, Any]]]:
        result = lapactl("doctor", "--cluster", "prod", *options, "--output", "json")
        return result.exit_code, {row["check"]: row for row in json.loads(result.stdout)}

    return call


def test_without_an_api_the_rest_is_told_all_the_same(doctor):
    code, rows = doctor()
    assert code == 1
    assert "no kubeconfig" in rows["api"]["found"] and "KUBECONFIG" in rows["api"]["remedy"]
    assert {"image", "mlflow", "shared memory"} <= rows.keys()


@pytest.mark.parametrize(
    ("answer", "says_its_version"),
    [
        (status(403, "Forbidden", "no"), True),
        (status(500, "InternalError", "boom"), True),
        ((200, "<html>Sign in</html>"), True),
        ((200, "<html>Sign in</html>"), False),
        ((200, {}), True),
    ],
)
def test_whatever_the_api_says_every_check_ends_as_a_verdict_with_a_next_move(
    doctor, fake_api, answer, says_its_version
):
    fake_api.rules.insert(0, lambda method, path, _: None if says_its_version and path == "/version" else answer)
    code, rows = doctor()
    assert code == 1
    assert not [row["check"] for row in rows.values() if row["status"] != "ok" and not row["remedy"]]
    if says_its_version:
        assert {"namespace", "operators", "queue", "image pull", "image", "mlflow"} <= rows.keys()
        assert rows["permissions"]["status"] != "ok"


def test_an_api_that_goes_away_in_the_middle_is_not_asked_again(doctor, fake_api):
    fake_api.rules.insert(0, lambda method, path, _: (200, "<html>") if path.startswith("/apis/") else None)
    code, rows = doctor()
    assert (code, rows["permissions"]["status"], rows["queue"]["status"]) == (1, "fail", "unseen")
    assert "went away" in rows["queue"]["found"]


def test_a_cluster_in_order_passes(doctor, fake_api):
    code, rows = doctor("--nodes", 2)
    assert code == 0, rows
    assert {rows[check]["status"] for check in ("api", "permissions", "operators", "queue", "quota", "image")} == {"ok"}
    assert "v1.34.0" in rows["api"]["found"]


def test_every_verb_is_asked_for(doctor, fake_api):
    doctor()
    asked = [body["spec"]["resourceAttributes"] for body in fake_api.bodies if body]
    verbs = {item["verb"] for item in asked if item["resource"] == "pytorchjobs"}
    assert verbs == {"create", "get", "list", "watch", "patch", "delete"}
    assert {item.get("subresource") for item in asked if item["resource"] == "pods"} == {None, "log"}


def test_a_missing_right_is_named(doctor, fake_api):
    denied = (201, {"status": {"allowed": False}})
    seen = []

    def deny(method: str, path: str, _: dict[str, str]) -> Any:
        if path.endswith("selfsubjectaccessreviews"):
            seen.append(path)
            return denied if len(seen) == 1 else None
        return None

    fake_api.rules.insert(0, deny)
    code, rows = doctor()
    assert code == 1
    assert rows["permissions"]["found"].endswith("pytorchjobs: create")
    assert "lapa-submitter" in rows["permissions"]["remedy"]


@pytest.mark.parametrize(("nodes", "status_", "words"), [(2, "ok", "16 nvidia.com/gpu"), (3, "fail", "never admit")])
def test_the_queue_is_compared_with_what_the_nodes_ask_for(doctor, fake_api, nodes: int, status_: str, words: str):
    _, rows = doctor("--nodes", nodes)
    assert rows["queue"]["status"] == status_
    assert words in rows["queue"]["found"]


def test_a_queue_that_is_not_there_is_a_failure(doctor, fake_api):
    fake_api.objects.clear()
    code, rows = doctor()
    assert code == 1
    assert "no LocalQueue 'research'" in rows["queue"]["found"]


def test_a_quota_of_the_namespace_counts_too(doctor, fake_api):
    hard, used = {"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "4"}
    quota = {"spec": {"hard": hard}, "status": {"used": used}}
    fake_api.put("/api/v1/namespaces/team/resourcequotas/gpus", quota)
    assert doctor("--nodes", 1)[1]["quota"]["status"] == "warn"
    assert doctor("--nodes", 2)[1]["quota"]["status"] == "fail"


def test_operators_that_are_missing_matter_to_several_nodes(doctor, fake_api):
    fake_api.served -= {"pytorchjobs", "trainjobs"}
    assert doctor("--nodes", 1)[1]["operators"]["status"] == "warn"
    assert doctor("--nodes", 2)[1]["operators"]["status"] == "fail"


def test_what_may_not_be_looked_at_is_no_failure(doctor, fake_api):
    fake_api.rules.insert(
        0, lambda method, path, _: status(403, "Forbidden", "no") if "/clusterqueues/" in path else None
    )
    code, rows = doctor()
    assert code == 0
    assert rows["queue"]["status"] == "unseen"


@pytest.mark.parametrize(
    ("image", "status_", "words"),
    [
        ("registry.example/lapa-train:latest", "warn", "moves"),
        ("lapa-train:0.1.0", "warn", "names no registry"),
        ("registry.example:5000/a/lapa:1", "warn", "not named by digest"),
        ("Registry/LAPA:1", "fail", "no image reference"),
        ("registry.example/lapa@sha256:123", "fail", "no image reference"),
    ],
)
def test_an_image_is_judged_by_its_name(doctor, project, image: str, status_: str, words: str):
    write_profile(project, image)
    row = doctor()[1]["image"]
    assert row["status"] == status_
    assert words in row["found"]


def test_an_mlflow_that_does_not_answer_from_here_is_a_warning(doctor):
    row = doctor()[1]["mlflow"]
    assert row["status"] == "warn"
    assert "pods may see it differently" in row["found"]
    assert "(Connection refused)" in row["found"] and "urlopen" not in row["found"]


def test_only_quota_of_the_resource_counts():
    flavors = [{"resources": [{"name": "cpu", "nominalQuota": 99}, {"name": "nvidia.com/gpu", "nominalQuota": 8}]}]
    assert nominal_quotas({"resourceGroups": [{"flavors": flavors}]}, "nvidia.com/gpu") == [8]


def kueue_configuration(*frameworks: str, **settings: Any) -> dict[str, Any]:
    configuration = {"kind": "Configuration", "integrations": {"frameworks": list(frameworks)}, **settings}
    return {"data": {"controller_manager_config.yaml": json.dumps(configuration)}}


KUEUE = "/api/v1/namespaces/kueue-system/configmaps/kueue-manager-config"


@pytest.mark.parametrize(
    ("configuration", "status_", "words"),
    [
        (
            kueue_configuration("batch/job", "kubeflow.org/pytorchjob", waitForPodsReady={"timeout": "5m"}),
            "ok",
            "waits",
        ),
        (kueue_configuration("kubeflow.org/pytorchjob"), "warn", "without waitForPodsReady"),
        (kueue_configuration("kubeflow.org/pytorchjob", waitForPodsReady={"enable": False}), "warn", "without"),
        (kueue_configuration("batch/job"), "fail", "leaves kubeflow.org/pytorchjob alone (it manages batch/job)"),
        ({"data": {}}, "unseen", "lists no frameworks"),
        ({"data": {"controller_manager_config.yaml": "a: [b"}}, "unseen", "lists no frameworks"),
    ],
)
def test_kueue_must_have_been_told_of_our_kind_of_job(doctor, fake_api, configuration: Any, status_: str, words: str):
    fake_api.put(KUEUE, configuration)
    code, rows = doctor()
    assert rows["kueue"]["status"] == status_
    assert words in rows["kueue"]["found"]
    assert code == int(status_ == "fail")


def test_where_kueues_configuration_may_not_be_read_what_it_did_before_is_a_proof(doctor, fake_api):
    fake_api.rules.insert(0, lambda method, path, _: status(403, "Forbidden", "no") if path == KUEUE else None)
    _, rows = doctor()
    assert rows["kueue"]["status"] == "unseen"
    assert "may not be read" in rows["kueue"]["found"]
    fake_api.served.add("workloads")
    owner = {"kind": "PyTorchJob", "name": "lapa-laq-1"}
    fake_api.put(
        f"{QUEUES}/v1beta2/namespaces/team/workloads/w", {"metadata": {"name": "w", "ownerReferences": [owner]}}
    )
    _, rows = doctor()
    assert (rows["kueue"]["status"], "lapa-laq-1" in rows["kueue"]["found"]) == ("ok", True)


def test_the_bucket_is_tried_with_this_machines_rights(doctor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lapactl.cluster_profile_checks.check_work", check_work)
    _, rows = doctor("--work", "memory://lapa")
    assert rows["storage: work folder"]["status"] == "ok"
    denied = Check("work folder", "fail", "PermissionError: Forbidden", "check AWS_ACCESS_KEY_ID")
    monkeypatch.setattr("lapactl.cluster_profile_checks.check_work", lambda run: denied)
    _, rows = doctor("--work", "memory://lapa")
    assert rows["storage: work folder"]["status"] == "warn"
    assert "pods have rights of their own" in rows["storage: work folder"]["remedy"]


def test_whether_the_image_can_be_pulled_is_told_by_pods_that_tried(doctor, fake_api):
    assert doctor()[1]["image pull"]["status"] == "unseen"
    image = "registry.example/lapa-train@sha256:" + "0" * 64
    metadata = {"name": "w-0", "labels": MANAGED_LABELS, "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "registry: not found"}}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "pytorch", "image": image}]}}
    path = "/api/v1/namespaces/team/pods/w-0"
    fake_api.put(path, {**pod, "status": {"containerStatuses": [{"name": "pytorch", "state": waiting}]}})
    code, rows = doctor()
    assert (code, rows["image pull"]["status"]) == (1, "fail")
    assert "the registry does not have it" in rows["image pull"]["found"]
    fake_api.put(path, {**pod, "status": {"containerStatuses": [{"name": "pytorch", "imageID": image, "state": {}}]}})
    assert doctor()[1]["image pull"]["status"] == "ok"
