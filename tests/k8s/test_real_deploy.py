"""Blue/green on a real API server; pods are played by a stand-in. `pytest -m cluster`."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from deployment_controller import BROKEN, NO_IMAGE, REFUSED, SILENT, Controller, running_controller
from deployment_specs import deployment_spec, pinned

from lapa_k8s import rollout
from lapa_k8s.client import Cluster
from lapa_k8s.deployment import DeploymentSpec
from lapa_k8s.deployment_record import Record, Release
from lapa_k8s.errors import ClusterUnreachable, NameTaken, Overtaken, RolloutFailed
from lapa_k8s.kinds import DEPLOYMENT, SERVICE
from lapa_k8s.rollout import Outcome, Plan, previous_release, prune, roll_out
from lapa_k8s.rollout_cluster import EVERYTHING, ClusterTarget, release_of
from lapa_k8s.rollout_sync import standing, sync

pytestmark = pytest.mark.cluster
NAME = "lapa-policy"
PATIENT = Plan(seconds=300, keep=timedelta(minutes=30))


@pytest.fixture
def controller(real_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.1)
    with running_controller(real_cluster, namespace) as found:
        yield found


@pytest.fixture
def target(real_cluster: Cluster, namespace: str, controller: Controller) -> ClusterTarget:
    return ClusterTarget(real_cluster, namespace)


def release(namespace: str, version: int, word: str = "fine", **changes: Any) -> Release:
    what = pinned(version, url=f"s3://robots/{word}-{version}")
    spec: DeploymentSpec = deployment_spec(version, namespace=namespace, pinned=what, **changes)
    like = Release(name="new", pinned=what, follows="production", by="ada", at="2026-01-01T00:00:00Z", spec={})
    return release_of(spec, like)


class Stage:
    """A namespace with its deployment, as robots and people see it."""

    def __init__(self, cluster: Cluster, target: ClusterTarget, namespace: str) -> None:
        self.cluster, self.target, self.namespace = cluster, target, namespace

    def deploy(self, version: int, word: str = "fine", plan: Plan = PATIENT, target: Any = None) -> Outcome:
        return roll_out(target or self.target, NAME, release(self.namespace, version, word), plan)

    @property
    def selected(self) -> str:
        """The release that robots reach."""
        return str(self.cluster.get(SERVICE, self.namespace, NAME)["spec"]["selector"]["lapa.dev/release"])

    @property
    def releases(self) -> set[str]:
        found = self.cluster.select(DEPLOYMENT, self.namespace, labels=EVERYTHING)
        return {item["metadata"]["name"] for item in found if not item["metadata"].get("deletionTimestamp")}

    def name(self, version: int, word: str = "fine") -> str:
        return release(self.namespace, version, word).name

    def record(self) -> Record:
        held = self.target.read(NAME)
        assert held is not None
        return held.record


@pytest.fixture
def stage(real_cluster: Cluster, target: ClusterTarget, namespace: str) -> Stage:
    return Stage(real_cluster, target, namespace)


def test_green_starts_beside_blue_the_service_switches_and_blue_stays_warm_for_a_rollback(
    stage: Stage, controller: Controller
):
    assert stage.deploy(1).kind == "switched"
    assert stage.deploy(1).kind == "unchanged"
    outcome = stage.deploy(2)
    assert stage.selected == stage.name(2) and stage.releases == {stage.name(1), stage.name(2)}
    assert outcome.record is not None and set(outcome.record.kept) == {stage.name(1)}
    assert len(controller.templates[stage.name(1)]) == 1, "connections to blue were left alone"
    service = stage.cluster.get(SERVICE, stage.namespace, NAME)
    assert service["metadata"]["annotations"]["lapa.dev/bundle-digest"] == f"{2:064x}"
    back = previous_release(stage.record(), version=None, by="ada", reason="drops the block")
    roll_out(stage.target, NAME, back, Plan(seconds=300, keep=PATIENT.keep, leaves=True, is_reconnecting=True))
    assert stage.selected == stage.name(1)
    assert [item.version for item in stage.record().rejected] == [2]
    bad = stage.cluster.get(DEPLOYMENT, stage.namespace, stage.name(2))
    assert "lapa.dev/relieved-at" in bad["spec"]["template"]["metadata"]["annotations"], "its robots come over now"


@pytest.mark.parametrize(
    ("word", "plan", "words"),
    [
        (SILENT, Plan(seconds=1, keep=PATIENT.keep), "was not ready after 1 s: 0 of 1 ready"),
        (BROKEN, PATIENT, "exit code 6: PolicyError: s3://robots/broken-2 has digest 12, expected 34"),
        (NO_IMAGE, PATIENT, "the registry does not have it; check images.serve in the cluster profile"),
        (REFUSED, PATIENT, "its pods are refused: pods are forbidden: exceeded quota"),
    ],
)
def test_a_version_that_never_becomes_ready_leaves_what_runs_and_nothing_behind(
    stage: Stage, word: str, plan: Plan, words: str
):
    with pytest.raises(RolloutFailed, match=words.replace("-1", "-.").replace("broken-2", "broken-.")):
        stage.deploy(1, word, plan)
    assert stage.releases == set() and stage.cluster.find(SERVICE, stage.namespace, NAME) is None
    stage.deploy(1)
    before = stage.record()
    with pytest.raises(RolloutFailed, match="What ran before still runs"):
        stage.deploy(2, word, plan)
    assert (stage.selected, stage.releases, stage.record()) == (stage.name(1), {stage.name(1)}, before)


@pytest.mark.parametrize("is_first", [True, False])
def test_of_deployers_at_once_exactly_one_wins_and_nothing_of_the_others_is_left(stage: Stage, is_first: bool):
    if not is_first:
        stage.deploy(1)
    start, results = threading.Barrier(4), dict[int, str]()

    class Together(ClusterTarget):
        """All switch at the same moment."""

        has_met = False

        def write(self, record: Record, token: str | None) -> None:
            if not self.has_met:
                self.has_met = True
                start.wait(timeout=300)
            super().write(record, token)

    def deployer(version: int) -> None:
        try:
            results[version] = stage.deploy(version, target=Together(stage.cluster, stage.namespace)).kind
        except Overtaken:
            results[version] = "overtaken"

    threads = [threading.Thread(target=deployer, args=(version,)) for version in (2, 3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    (winner,) = [version for version, result in results.items() if result == "switched"]
    assert sorted(results.values()) == ["overtaken"] * 3 + ["switched"]
    assert stage.selected == stage.name(winner)
    assert stage.releases == {stage.name(winner), *([] if is_first else [stage.name(1)])}


def test_a_deployer_that_finds_its_version_half_made_takes_over_and_the_first_does_not_undo_it(stage: Stage):
    stage.deploy(1)
    first = release(stage.namespace, 2)
    abandoned = stage.target.start(first)
    assert stage.deploy(2).kind == "switched"
    assert not stage.target.discard(first.name, abandoned.claim), "another deployer answers for it by now"
    assert stage.selected == stage.name(2) and stage.name(2) in stage.releases


def test_a_switch_whose_answer_was_lost_counts_when_it_arrived(stage: Stage):
    stage.deploy(1)

    class Lossy(ClusterTarget):
        def write(self, record: Record, token: str | None) -> None:
            super().write(record, token)
            raise ClusterUnreachable("the connection broke")

    assert stage.deploy(2, target=Lossy(stage.cluster, stage.namespace)).kind == "switched"
    assert stage.selected == stage.name(2)


def test_what_else_changes_the_service_stops_no_switch(stage: Stage):
    stage.deploy(1)

    class Disturbed(ClusterTarget):
        """A load balancer notes something between the look and the switch."""

        is_disturbed = False

        def write(self, record: Record, token: str | None) -> None:
            if not self.is_disturbed:
                self.is_disturbed = True
                change = {"metadata": {"annotations": {"cloud.example/address": "10.1.1.1"}}}
                self._cluster.patch(SERVICE, self._namespace, NAME, change)
            super().write(record, token)

    assert stage.deploy(2, target=Disturbed(stage.cluster, stage.namespace)).kind == "switched"
    service = stage.cluster.get(SERVICE, stage.namespace, NAME)
    assert service["metadata"]["annotations"]["cloud.example/address"] == "10.1.1.1"


def test_a_rollback_makes_again_what_is_gone_from_the_record_alone(stage: Stage):
    stage.deploy(1)
    stage.deploy(2, plan=Plan(seconds=300, keep=timedelta(seconds=0.001)))
    assert prune(stage.target, NAME, older_than=timedelta(hours=1)) == [stage.name(1)]
    assert stage.releases == {stage.name(2)}
    back = previous_release(stage.record(), version=None, by="ada", reason="")
    roll_out(stage.target, NAME, back, PATIENT)
    assert stage.selected == stage.name(1) and stage.releases == {stage.name(1), stage.name(2)}


def test_sync_closes_drift_and_heals_and_prune_takes_what_dead_deployers_left(stage: Stage):
    stage.deploy(1)
    desired = pinned(2, url="s3://robots/fine-2")
    found = standing(stage.target, NAME, lambda *_: desired)
    assert found.state == "drift"
    assert sync(stage.target, NAME, found, PATIENT, by="reconciler").kind == "switched"
    assert stage.selected == stage.name(2)
    found = standing(stage.target, NAME, lambda *_: desired)
    assert (found.state, sync(stage.target, NAME, found, PATIENT, by="reconciler").kind) == ("in-sync", "unchanged")
    stage.cluster.delete(DEPLOYMENT, stage.namespace, stage.name(2))
    found = standing(stage.target, NAME, lambda *_: "the registry is away")
    assert found.state == "unknown" and found.health.state == "missing"
    assert sync(stage.target, NAME, found, PATIENT, by="reconciler").kind == "switched"
    assert stage.name(2) in stage.releases
    stage.target.start(release(stage.namespace, 3))  # and its deployer dies
    assert prune(stage.target, NAME, older_than=timedelta(hours=1)) == []
    assert prune(stage.target, NAME, older_than=timedelta(seconds=-5)) == [stage.name(3)]
    assert stage.selected == stage.name(2)


def test_a_service_of_somebody_else_is_not_taken(stage: Stage):
    port = {"port": 80}
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": {"ports": [port]}}
    stage.cluster.create(SERVICE, stage.namespace, foreign)
    with pytest.raises(NameTaken, match="was not made by `lapactl deploy`"):
        stage.deploy(1)
    assert stage.releases == set()


def test_what_is_deleted_is_gone_with_all_its_servers(stage: Stage):
    stage.deploy(1)
    stage.deploy(2)
    stage.target.remove(NAME)
    assert stage.releases == set() and stage.target.names() == []
