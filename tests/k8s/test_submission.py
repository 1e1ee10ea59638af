"""All of a job or nothing of it; requests to a fake server."""

from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi, running_fake_api, status
from job_specs import job_spec

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import (
    AccessDenied,
    ClusterError,
    ClusterUnreachable,
    KindNotServed,
    ManifestRefused,
    NameTaken,
    NotFound,
    Overtaken,
    QuotaExceeded,
)
from lapa_k8s.kinds import PYTORCHJOB, Kind
from lapa_k8s.rendering.manifests import render
from lapa_k8s.submission import check, detect_operator, submit

SPEC = job_spec()
JOBS = "/apis/kubeflow.org/v1/namespaces/team/pytorchjobs"
CONFIGS = "/api/v1/namespaces/team/configmaps"


def refuse(method: str, path: str, answer):
    return lambda asked, where, _query: answer if (asked, where) == (method, path) else None


def test_a_submission_is_a_job_that_owns_its_configuration(fake_api: FakeApi, cluster: Cluster):
    submitted = submit(cluster, SPEC)
    assert submitted.is_new
    job, config = fake_api.objects[f"{JOBS}/{SPEC.name}"], fake_api.objects[f"{CONFIGS}/{SPEC.name}"]
    assert config["data"] == {"run.yaml": SPEC.config}
    owner = config["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("PyTorchJob", SPEC.name, job["metadata"]["uid"])


def test_the_same_submission_twice_is_the_same_job(fake_api: FakeApi, cluster: Cluster):
    submit(cluster, SPEC)
    again = submit(cluster, SPEC)
    assert not again.is_new
    assert len(fake_api.objects) == 2


def test_a_submission_that_broke_off_after_its_configuration_is_finished_by_the_next(
    fake_api: FakeApi, cluster: Cluster
):
    submit(cluster, SPEC)
    del fake_api.objects[f"{JOBS}/{SPEC.name}"]
    assert submit(cluster, SPEC).is_new
    uid = fake_api.objects[f"{JOBS}/{SPEC.name}"]["metadata"]["uid"]
    assert fake_api.objects[f"{CONFIGS}/{SPEC.name}"]["metadata"]["ownerReferences"][0]["uid"] == uid


@pytest.mark.parametrize("failing", [("POST", JOBS), ("PATCH", f"{CONFIGS}/{SPEC.name}")])
def test_nothing_is_left_of_a_submission_that_fails(fake_api: FakeApi, cluster: Cluster, failing: tuple[str, str]):
    fake_api.rules.append(refuse(*failing, status(403, "Forbidden", "no")))
    with pytest.raises(AccessDenied):
        submit(cluster, SPEC)
    assert fake_api.objects == {}


def test_nothing_is_left_of_a_submission_that_is_stopped_before_the_server_answers(
    fake_api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    create = Cluster.create

    def stopped(asked: Cluster, kind: Kind, *arguments: Any) -> Manifest:
        made = create(asked, kind, *arguments)
        if kind == PYTORCHJOB:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(Cluster, "create", lambda *arguments, is_dry_run=False: stopped(*arguments))
    with pytest.raises(KeyboardInterrupt):
        submit(cluster, SPEC)
    assert fake_api.objects == {}


def of_a_rival(fake_api: FakeApi) -> None:
    """The very same was submitted by somebody else meanwhile."""
    manifests = render(SPEC)
    fake_api.put(f"{JOBS}/{SPEC.name}", manifests.job)
    if f"{CONFIGS}/{SPEC.name}" not in fake_api.objects:
        fake_api.put(f"{CONFIGS}/{SPEC.name}", manifests.config_map)


@pytest.mark.parametrize("moment", ["create", "find"])
def test_a_submission_that_is_stopped_leaves_a_rival_s_job(
    fake_api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, moment: str
):
    create, find, found = Cluster.create, Cluster.find, []

    def create_second(asked: Cluster, kind: Kind, *arguments: Any, is_dry_run: bool = False) -> Manifest:
        if kind == PYTORCHJOB:
            of_a_rival(fake_api)
            if moment == "create":  # before the server's answer, NameTaken, arrives
                raise KeyboardInterrupt
        return create(asked, kind, *arguments, is_dry_run=is_dry_run)

    def stopped_find(asked: Cluster, *arguments: Any) -> Manifest | None:
        found.append(arguments)
        if moment == "find" and len(found) == 2:  # whose job it is that has the name
            raise KeyboardInterrupt
        return find(asked, *arguments)

    monkeypatch.setattr(Cluster, "create", create_second)
    monkeypatch.setattr(Cluster, "find", stopped_find)
    with pytest.raises(KeyboardInterrupt):
        submit(cluster, SPEC)
    assert sorted(fake_api.objects) == sorted([f"{JOBS}/{SPEC.name}", f"{CONFIGS}/{SPEC.name}"])


@pytest.mark.parametrize("is_back", [True, False])
def test_after_a_lost_answer_all_of_a_job_goes_or_all_of_it_stays(
    fake_api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, is_back: bool
):
    create = Cluster.create
    away = status(403, "Forbidden", "not now")

    def answer_lost(asked: Cluster, kind: Kind, *arguments: Any, is_dry_run: bool = False) -> Manifest:
        made = create(asked, kind, *arguments, is_dry_run=is_dry_run)
        if kind == PYTORCHJOB:
            if not is_back:
                fake_api.rules.append(lambda *_: away)
            raise ClusterUnreachable("nobody answers")
        return made

    monkeypatch.setattr(Cluster, "create", answer_lost)
    with pytest.raises(ClusterUnreachable):
        submit(cluster, SPEC)
    assert len(fake_api.objects) == (0 if is_back else 2)
    if not is_back:  # the same command finds it
        fake_api.rules.clear()
        assert not submit(cluster, SPEC).is_new


def test_a_job_that_took_the_place_of_ours_is_not_deleted(fake_api: FakeApi, cluster: Cluster):
    submit(cluster, SPEC)
    with pytest.raises(Overtaken):
        cluster.delete(PYTORCHJOB, "team", SPEC.name, uid="of-the-one-before")
    assert f"{JOBS}/{SPEC.name}" in fake_api.objects


def test_another_s_job_of_that_name_is_left_alone(fake_api: FakeApi, cluster: Cluster):
    fake_api.put(f"{JOBS}/{SPEC.name}", {"kind": "PyTorchJob", "metadata": {"annotations": {}}})
    with pytest.raises(NameTaken, match="--new"):
        submit(cluster, SPEC)


def test_another_s_configuration_of_that_name_is_left_alone(fake_api: FakeApi, cluster: Cluster):
    fake_api.put(f"{CONFIGS}/{SPEC.name}", {"data": {"other": "x"}})
    with pytest.raises(NameTaken, match="--new"):
        submit(cluster, SPEC)
    assert f"{JOBS}/{SPEC.name}" not in fake_api.objects


def test_a_server_side_dry_run_sends_both_and_stores_nothing(fake_api: FakeApi, cluster: Cluster):
    check(cluster, SPEC)
    posts = [query for method, _, query in fake_api.requests if method == "POST"]
    assert [query["dryRun"] for query in posts] == ["All", "All"]
    assert fake_api.objects == {}


def test_a_job_that_is_there_passes_a_dry_run(fake_api: FakeApi, cluster: Cluster):
    submit(cluster, SPEC)
    check(cluster, SPEC)
    del fake_api.objects[f"{JOBS}/{SPEC.name}"]
    check(cluster, SPEC)
    assert f"{JOBS}/{SPEC.name}" not in fake_api.objects


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(403, "Forbidden", 'pytorchjobs is forbidden: User "a" cannot create'), AccessDenied, "lapa-submitter"),
        (status(403, "Forbidden", "exceeded quota: gpus, limited: 8"), QuotaExceeded, "limited: 8"),
        (status(403, "Forbidden", 'admission webhook "x" denied the request: no'), ManifestRefused, "policy"),
        (status(401, "Unauthorized", "Unauthorized"), AccessDenied, "Log in again"),
        (status(404, "NotFound", "could not find the requested resource"), KindNotServed, "training-operator"),
        ((404, "404 page not found"), KindNotServed, "training-operator"),
        (status(404, "NotFound", 'namespaces "team" not found', name="team", kind="namespaces"), NotFound, "namespace"),
        (status(422, "Invalid", "spec.replicas: Invalid value: -1"), ManifestRefused, "spec.replicas"),
        (status(500, "InternalError", "etcd is away"), ClusterError, "etcd is away"),
        ((502, "<html>Bad gateway</html>"), ClusterError, "502"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_helps_and_is_not_repeated(fake_api: FakeApi, cluster: Cluster, answer, error, words):
    fake_api.rules.append(refuse("POST", JOBS, answer))
    with pytest.raises(error, match=words):
        submit(cluster, SPEC)
    assert len([path for method, path, _ in fake_api.requests if (method, path) == ("POST", JOBS)]) == 1


def test_a_throttled_request_is_sent_again(fake_api: FakeApi, cluster: Cluster):
    answers = [status(429, "TooManyRequests"), status(429, "TooManyRequests")]
    fake_api.rules.append(
        lambda method, path, _: answers.pop() if (method, path) == ("POST", JOBS) and answers else None
    )
    assert submit(cluster, SPEC).is_new


def test_reading_outlives_a_broken_server(fake_api: FakeApi, cluster: Cluster):
    answers = [status(503, "ServiceUnavailable"), (500, "oops")]
    fake_api.rules.append(lambda method, *_: answers.pop() if method == "GET" and answers else None)
    assert submit(cluster, SPEC).is_new


@pytest.mark.parametrize(
    ("served", "operator"), [({"pytorchjobs", "trainjobs"}, "pytorchjob"), ({"trainjobs"}, "trainjob")]
)
def test_the_operator_is_what_the_cluster_serves(fake_api: FakeApi, cluster: Cluster, served: set[str], operator: str):
    fake_api.served = served
    assert detect_operator(cluster) == operator


def test_a_cluster_without_operators_says_what_to_ask_for(fake_api: FakeApi, cluster: Cluster):
    fake_api.served = {"jobs"}
    with pytest.raises(KindNotServed, match="--operator job"):
        detect_operator(cluster)


def test_nobody_at_the_address_is_told_with_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with running_fake_api(tmp_path) as (_, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        cluster = Cluster.connect()
    with pytest.raises(ClusterUnreachable, match=r"127\.0\.0\.1:\d+.*kubectl cluster-info"):
        submit(cluster, SPEC)


@pytest.mark.parametrize(
    ("kubeconfig", "context", "words"),
    [
        (None, None, "there is no kubeconfig at"),
        ("{", None, "does not lead to a cluster"),
        ("apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n", "gone", "no context 'gone'"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_is_told_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kubeconfig: str | None, context: str | None, words: str
):
    path = tmp_path / "config"
    if kubeconfig is not None:
        path.write_text(kubeconfig)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ClusterUnreachable, match=words):
        Cluster.connect(context)
