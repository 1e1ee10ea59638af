"""Deployments on this machine: real processes and a real front; the policy server is a stand-in that starts at once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from local_servers import BROKEN, SILENT, stand_in_command

from lapa_k8s import rollout
from lapa_k8s.deployment import Pinned
from lapa_k8s.deployment_record import Release
from lapa_k8s.errors import ClusterUnreachable, Overtaken, RolloutFailed
from lapa_k8s.rollout import Outcome, Plan, previous_release, prune, roll_out
from lapa_k8s.rollout_sync import standing, sync
from lapactl.deploy_change import sync_once, watch
from lapactl.deploy_local import LocalSpec, LocalTarget, local_release
from lapactl.deploy_places import first_release
from lapactl.output import Output, OutputFormat

NAME = "arm"
PATIENT = Plan(seconds=600, keep=timedelta(minutes=30))
LEAVING = Plan(seconds=600, keep=timedelta(minutes=30), leaves=True)
TIMEOUT = 300


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalTarget]:
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.02)
    found = LocalTarget(tmp_path / "state", command=stand_in_command)
    yield found
    for name in found.names():
        found.remove(name)


def pinned(version: int, word: str = "fine") -> Pinned:
    return Pinned(model="arm-policy", version=version, digest=f"{version:064x}", url=f"s3://robots/{word}-{version}")


def release(version: int, word: str = "fine", *, follows: str | None = "production") -> Release:
    what = pinned(version, word)
    return local_release(LocalSpec(name=NAME, port=0), what, first_release(what, follows=follows, by="ada", reason=""))


def deploy(target: LocalTarget, version: int, word: str = "fine", plan: Plan = PATIENT) -> Outcome:
    return roll_out(target, NAME, release(version, word), plan)


def url(target: LocalTarget) -> str:
    return target.address(NAME).replace("ws://", "http://")


def answering(target: LocalTarget) -> int:
    return int(requests.post(url(target), json={}, timeout=TIMEOUT).json()["version"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def servers(target: LocalTarget) -> set[str]:
    return set(target.claims(NAME))


def test_a_switch_loses_no_request_keeps_the_address_and_a_rollback_takes_no_start(target: LocalTarget):
    deploy(target, 1)
    address, seen, stop = url(target), [], threading.Event()

    def robot(session: requests.Session) -> None:
        while not stop.is_set():
            answer = session.post(address, json={}, timeout=TIMEOUT)
            seen.append((answer.status_code, answer.json()["version"]))

    def robot_that_reconnects() -> None:
        while not stop.is_set():
            with requests.Session() as session:
                answer = session.post(address, json={}, timeout=TIMEOUT)
                seen.append((answer.status_code, answer.json()["version"]))

    robots = [threading.Thread(target=robot_that_reconnects) for _ in range(3)]
    robots.append(threading.Thread(target=robot, args=(requests.Session(),)))
    for thread in robots:
        thread.start()
    try:
        first = release(1)
        deploy(target, 2)
        wait_until(lambda: (200, 2) in seen)
        assert answering(target) == 2 and target.health(first).state == "ready"
        before = servers(target)
        back = previous_release(target.read(NAME).record, version=None, by="ada", reason="drops the block")
        outcome = roll_out(target, NAME, back, LEAVING)
        assert outcome.kind == "switched" and answering(target) == 1 and servers(target) == before
    finally:
        stop.set()
        for thread in robots:
            thread.join(TIMEOUT)
    assert {code for code, _ in seen} == {200}
    assert url(target) == address
    record = target.read(NAME).record
    assert [item.pinned.version for item in record.history] == [1, 2, 1]
    assert [item.version for item in record.rejected] == [2]


@pytest.mark.parametrize(
    ("word", "plan", "words"),
    [
        (BROKEN, PATIENT, "PolicyError: the weights are damaged"),
        (SILENT, Plan(seconds=1, keep=PATIENT.keep), "was not ready after 1 s"),
    ],
)
def test_a_version_that_is_never_ready_leaves_what_runs_and_nothing_behind(
    target: LocalTarget, word: str, plan: Plan, words: str
):
    with pytest.raises(RolloutFailed, match=words):
        deploy(target, 1, word, plan)
    assert target.names() == []
    deploy(target, 1)
    before = target.read(NAME)
    with pytest.raises(RolloutFailed, match=words):
        deploy(target, 2, word, plan)
    assert (answering(target), target.read(NAME), servers(target)) == (1, before, {release(1).name})


def test_of_two_deployers_at_once_one_wins_and_the_other_takes_its_servers_away(target: LocalTarget):
    deploy(target, 1)

    class Slow(LocalTarget):
        """Between whose look and whose switch another deployer is done."""

        def write(self, record, token):
            if record.active.pinned.version == 3 and deployed == []:
                deployed.append(deploy(target, 2))
            super().write(record, token)

    deployed: list[Outcome] = []
    slow = Slow(target.folder(NAME).parent, command=stand_in_command)
    with pytest.raises(Overtaken):
        roll_out(slow, NAME, release(3), PATIENT)
    assert answering(target) == 2
    assert servers(target) == {release(1).name, release(2).name}


def test_sync_follows_the_alias_starts_what_died_and_leaves_what_a_rollback_left(target: LocalTarget):
    deploy(target, 1)

    def look(desired: Pinned | str) -> tuple[str, str, int]:
        found = standing(target, NAME, lambda *_: desired)
        outcome = sync(target, NAME, found, PATIENT, by="reconciler")
        return found.state, outcome.kind, answering(target)

    assert look(pinned(1)) == ("in-sync", "unchanged", 1)
    assert look("the registry stayed away") == ("unknown", "unchanged", 1)
    assert look(pinned(2)) == ("drift", "switched", 2)
    target._server(NAME, release(2).name).stop()
    assert standing(target, NAME, lambda *_: pinned(2)).health.state == "missing"
    assert look(pinned(2)) == ("in-sync", "switched", 2)
    target._front(NAME).stop()
    found = standing(target, NAME, lambda *_: pinned(2))
    assert sync(target, NAME, found, PATIENT, by="reconciler").kind == "switched"
    assert answering(target) == 2, "the front is back, too"
    roll_out(target, NAME, previous_release(target.read(NAME).record, version=1, by="ada", reason=""),
             Plan(seconds=600, keep=timedelta(0), leaves=True))  # fmt: skip
    assert look(pinned(2)) == ("held", "unchanged", 1)
    assert look(pinned(3)) == ("drift", "switched", 3)


def test_a_version_that_fails_is_not_tried_again_at_once(target: LocalTarget):
    deploy(target, 1)
    found = standing(target, NAME, lambda *_: pinned(2, BROKEN))
    with pytest.raises(RolloutFailed):
        sync(target, NAME, found, PATIENT, by="reconciler")
    again = standing(target, NAME, lambda *_: pinned(2, BROKEN))
    assert again.state == "drift" and again.retry_at is not None and "failed 1 times" in again.words
    assert sync(target, NAME, again, PATIENT, by="reconciler").kind == "unchanged"
    assert servers(target) == {release(1).name}


def test_replaced_servers_go_when_their_time_is_over(target: LocalTarget):
    deploy(target, 1)
    deploy(target, 2, plan=Plan(seconds=600, keep=timedelta(seconds=0.001)))
    assert prune(target, NAME, older_than=timedelta(hours=1)) == [release(1).name]
    assert servers(target) == {release(2).name} and answering(target) == 2
    back = previous_release(target.read(NAME).record, version=None, by="ada", reason="")
    roll_out(target, NAME, back, PATIENT)
    assert answering(target) == 1, "started again from the record"


def test_a_bad_version_s_connections_are_closed_by_a_rollback(target: LocalTarget):
    deploy(target, 1)
    deploy(target, 2)
    with requests.Session() as session:
        assert session.post(url(target), json={}, timeout=TIMEOUT).json()["version"] == 2
        back = previous_release(target.read(NAME).record, version=None, by="ada", reason="")
        roll_out(target, NAME, back, Plan(seconds=600, keep=PATIENT.keep, leaves=True, is_reconnecting=True))

        def meets_the_good_one() -> bool:
            """The front may be about to hear that the connection ended; one that did not would stay with version 2."""
            with suppress(requests.ConnectionError):
                return bool(session.post(url(target), json={}, timeout=TIMEOUT).json()["version"] == 1)
            return False

        wait_until(meets_the_good_one)


def test_an_address_that_is_taken_is_told_before_anything_is_left(target: LocalTarget, tmp_path: Path):
    deploy(target, 1)
    taken = int(target.address(NAME).rsplit(":", 1)[1])
    what = pinned(1)
    other = local_release(
        LocalSpec(name="other", port=taken), what, first_release(what, follows=None, by="ada", reason="")
    )
    with pytest.raises(RolloutFailed, match=f"127.0.0.1:{taken}"):
        roll_out(target, "other", other, PATIENT)
    assert target.names() == [NAME] and answering(target) == 1


def test_a_reconciler_rides_out_what_is_away_and_then_does_its_work(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    deploy(target, 1)
    api = [ClusterUnreachable("the API server stays away"), None, None]
    registry = [pinned(2), "the registry stayed away", pinned(2)]
    looked: list[int] = []

    def look() -> None:
        number = len(looked)
        if (outage := api[number]) is not None:
            raise outage
        sync_once(
            Output(OutputFormat.TEXT), target, [NAME], lambda *_: registry[number], seconds=600, keep_minutes=None
        )

    def pause(_: float) -> None:
        looked.append(answering(target))
        if len(looked) == len(api):
            raise SystemExit

    monkeypatch.setattr("lapactl.deploy_change.sleep", pause)
    with pytest.raises(SystemExit):
        watch(Output(OutputFormat.TEXT), look, seconds=30)
    assert looked == [1, 1, 2], "what runs is left alone until both are back"
    told = capsys.readouterr().err
    assert "the API server stays away" in told and "the registry stayed away" in told
