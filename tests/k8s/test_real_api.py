"""The client and its manifests against a real API server with the operators' kinds. `pytest -m cluster`."""

import threading
import time
from pathlib import Path

import pytest
from job_specs import GOLDEN, job_spec

from lapa_k8s import following
from lapa_k8s.client import Cluster, StreamExpired
from lapa_k8s.control import cancel, set_suspended
from lapa_k8s.errors import AccessDenied, JobVanished, KindNotServed, ManifestRefused, NotFound
from lapa_k8s.following import wait_for_end
from lapa_k8s.kinds import CONFIG_MAP, JOB_KINDS, PYTORCHJOB, Kind, is_suspended
from lapa_k8s.records import list_jobs
from lapa_k8s.rendering.manifests import render
from lapa_k8s.spec import JobSpec
from lapa_k8s.states import State
from lapa_k8s.submission import check, detect_operator, submit

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(real_cluster: Cluster) -> Cluster:
    return real_cluster


def in_namespace(spec: JobSpec, namespace: str) -> JobSpec:
    return spec.model_copy(update={"namespace": namespace})


@pytest.mark.parametrize("name", GOLDEN)
def test_the_server_accepts_what_we_render_and_keeps_all_of_it(cluster: Cluster, namespace: str, name: str):
    spec = in_namespace(GOLDEN[name], namespace)
    check(cluster, spec)
    submit(cluster, spec)
    stored = cluster.get(JOB_KINDS[spec.operator], namespace, spec.name)
    if spec.operator != "job":  # an old server drops newer fields of its own kinds, which schemas check instead
        assert without_defaults(stored["spec"]) == without_defaults(render(spec).job["spec"])


def without_defaults(spec: dict) -> dict:
    """What the CRDs fill in is no loss."""
    run_policy = {key: value for key, value in (spec.get("runPolicy") or {}).items() if key != "suspend"}
    rest = {key: value for key, value in spec.items() if key not in ("suspend", "runPolicy")}
    return {**rest, "runPolicy": run_policy}


def test_a_job_and_its_configuration_belong_together(cluster: Cluster, namespace: str):
    spec = in_namespace(job_spec(), namespace)
    assert submit(cluster, spec).is_new
    assert not submit(cluster, spec).is_new
    owner = cluster.get(CONFIG_MAP, namespace, spec.name)["metadata"]["ownerReferences"][0]
    assert owner["uid"] == cluster.get(PYTORCHJOB, namespace, spec.name)["metadata"]["uid"]
    assert [item.state.state for item in list_jobs(cluster, namespace)] == [State.PENDING]


def test_a_wrong_type_is_refused_with_its_place_and_nothing_is_left(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    spec = in_namespace(job_spec(), namespace)
    wrong = render(spec)
    wrong.job["spec"]["nprocPerNode"] = 8
    monkeypatch.setattr("lapa_k8s.submission.render", lambda _: wrong)
    with pytest.raises(ManifestRefused, match="nprocPerNode"):
        submit(cluster, spec)
    assert cluster.find(CONFIG_MAP, namespace, spec.name) is None


def test_waiting_wakes_up_when_the_operator_says_so(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "WATCH_SECONDS", 900.0)
    spec = in_namespace(job_spec(), namespace)
    submit(cluster, spec)
    done = {"status": {"conditions": [{"type": "Succeeded", "status": "True", "message": "done"}]}}
    threading.Timer(1, lambda: cluster.patch(PYTORCHJOB, namespace, spec.name, done, part="status")).start()
    started = time.monotonic()
    assert wait_for_end(cluster, namespace, spec.name).state is State.SUCCEEDED
    assert time.monotonic() - started < 450, "it polled instead of watching"


def test_a_job_that_is_deleted_while_waited_for_is_told(cluster: Cluster, namespace: str):
    spec = in_namespace(job_spec(), namespace)
    submit(cluster, spec)
    threading.Timer(1, lambda: cancel(cluster, namespace, spec.name)).start()
    with pytest.raises(JobVanished):
        wait_for_end(cluster, namespace, spec.name)


def test_a_version_that_the_server_forgot_is_told(cluster: Cluster, namespace: str):
    with pytest.raises(StreamExpired):
        list(cluster.watch(PYTORCHJOB, namespace, "any", version="1", seconds=2))


@pytest.mark.parametrize("operator", ["pytorchjob", "trainjob"])
def test_suspending_reaches_the_field_that_the_operator_reads(cluster: Cluster, namespace: str, operator: str):
    spec = in_namespace(job_spec(operator=operator), namespace)
    submit(cluster, spec)
    for wanted in (True, False):
        set_suspended(cluster, namespace, spec.name, is_suspended=wanted)
        assert is_suspended(cluster.get(JOB_KINDS[spec.operator], namespace, spec.name)) is wanted


def test_a_stranger_is_told_what_is_missing(
    kubeconfigs: dict[str, Path], namespace: str, monkeypatch: pytest.MonkeyPatch
):
    if "stranger" not in kubeconfigs:
        pytest.skip("a cluster of one's own has no stranger")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfigs["stranger"]))
    with pytest.raises(AccessDenied, match="lapa-submitter"):
        submit(Cluster.connect(), in_namespace(job_spec(), namespace))


def test_what_is_not_there_is_told_apart(cluster: Cluster):
    assert detect_operator(cluster) == "pytorchjob"
    with pytest.raises(NotFound, match="no namespace 'nowhere'"):
        submit(cluster, in_namespace(job_spec(), "nowhere"))
    with pytest.raises(KindNotServed):
        cluster.select(Kind("example.dev/v1", "Nothing", "nothings"), "default")
