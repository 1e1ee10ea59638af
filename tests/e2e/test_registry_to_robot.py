"""From a registry to a robot that moves: gates, a deployment, a switch under way, and back without the registry.

Everything is what a user has: the smoke preset's own policies, MLflow and S3 servers, `lapactl`, the public client.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow_server import MlflowServer
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from policy_server import PATIENCE, TOKEN, UNHURRIED, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lapa.config.serving import TOKEN_VARIABLE
from lapa.config.stages import TabletopEvaluation
from lapa.envs.tabletop.episode import TabletopEpisode
from lapa.envs.tabletop.simulator import TabletopSimulator
from lapactl import registry as registry_options
from lapactl.deploy_local import LocalTarget
from tests.cli.conftest import Lapactl, lapactl, lapactl_json
from tests.e2e.test_chain import SMALLER
from tests.s3_server import S3Server, s3

__all__ = ["lapactl", "lapactl_json", "s3"]  # fixtures

pytestmark = pytest.mark.slow

# The public client has no settings for them.
connect.__kwdefaults__ |= {"open_timeout": PATIENCE, "ping_timeout": PATIENCE}

MODEL, RUN = "lapa-policy", "tabletop-smoke"
STRICT = "gates: [{kind: files}, {kind: success-rate, at_least: 0.9, min_episodes: 3}]"
FAIR = """
gates:
  - kind: files
  - kind: loads
  - {kind: latency, max_milliseconds: 60000}
  - {kind: success-rate, at_least: 0.0, min_episodes: 3}
  - {kind: not-below-production, margin: 1.0}
  - kind: provenance
  - kind: licence
"""
"""Nothing is learned in four steps, so only the bar for success is low."""


class Robot(threading.Thread):
    """The tabletop's body, driven in closed loop by openpi's own client, one episode after the other."""

    def __init__(self, port: int, *, keeps_connection: bool) -> None:
        super().__init__(daemon=True)
        self._port, self._keeps_connection = port, keeps_connection
        self._client: WebsocketClientPolicy | None = None
        self.is_enough = threading.Event()
        self.asked, self.versions, self.episodes = 0, list[str](), 0
        self.cuts = 0
        """Connections that ended under it; it connects again and asks again, as robots do."""
        self.error: Exception | None = None

    def run(self) -> None:
        simulator = TabletopSimulator(TabletopEvaluation(episodes=3, max_steps=10))
        try:
            while not self.is_enough.is_set():
                self._drive(simulator.episode(self.episodes % 3))
                self.episodes += 1
                if not self._keeps_connection:
                    self._hang_up()
        except Exception as error:
            self.error = error
        finally:
            self._hang_up()

    def has_met(self, version: str) -> bool:
        """Whether its last answer came from that version."""
        assert self.error is None, self.error
        return bool(self.versions) and self.versions[-1] == version

    def _drive(self, episode: TabletopEpisode) -> None:
        while not episode.is_over and not self.is_enough.is_set():
            answer = self._ask({"observation/image": episode.image, "prompt": episode.instruction})
            self.versions.append(answer["model"]["version"])
            for action in answer["actions"]:
                if not episode.is_over:
                    episode.step(action)

    def _ask(self, observation: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        while True:
            if self._client is None:
                self._client = WebsocketClientPolicy("127.0.0.1", self._port, api_key=TOKEN)
            try:
                return dict(self._client.infer(observation))
            except ConnectionClosed:
                self.cuts += 1
                self._client = None

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client._ws.close()
            self._client = None


class Lab(NamedTuple):
    """A registry with two policies of one run, not exported yet."""

    mlflow: MlflowServer
    bucket: str
    bundles: tuple[str, str]
    at: tuple[str, str]
    """Options that name the registry."""


@pytest.fixture
def lab(tmp_path: Path, s3: S3Server, lapactl_json, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    bucket = s3.new_bucket("registry-to-robot")
    mlflow = MlflowServer(tmp_path)
    monkeypatch.setattr(registry_options, "WAIT_SECONDS", PATIENCE)
    monkeypatch.chdir(tmp_path)  # logs of the stages
    settings = (*SMALLER, f"tracking.uri={mlflow.uri}", f"work_url={bucket}/work")
    try:
        mlflow.start()
        made = lapactl_json("run", RUN, *(f"--set={setting}" for setting in settings))
        bundles = {
            item["name"]: item["outputs"]["policy"]["url"] for item in made["stages"] if item["stage"] == "finetune"
        }
        yield Lab(mlflow, bucket, (bundles[RUN], bundles["scratch"]), ("--tracking", mlflow.uri))
    finally:
        mlflow.kill()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """Options of commands about deployments on this machine, which are gone afterwards."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr("lapactl.deploy.end_cleanly", lambda: None)  # the handler would be pytest's
    state = tmp_path / "state"
    yield ("--target", "local", "--state", str(state))
    target = LocalTarget(state)
    for name in target.names():
        target.remove(name)


def promoted(lapactl: Lapactl, lab: Lab, gates: str, folder: Path) -> Any:
    file = folder / "gates.yaml"
    file.write_text(gates)
    return lapactl("promote", f"{MODEL}@candidate", "--gates", file, *lab.at)


def test_a_policy_goes_from_the_registry_to_a_robot_and_a_bad_one_is_taken_back_without_it(
    lab: Lab,
    here: tuple[str, ...],
    lapactl: Lapactl,
    lapactl_json,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # Through gates: one refuses, all pass.
    first = lapactl_json("export", lab.bundles[0], f"{lab.bucket}/policies/one", *lab.at)
    assert (first["version"], first["aliases"]) == (1, ["candidate"])
    refused = promoted(lapactl, lab, STRICT, tmp_path)
    assert refused.exit_code == 10 and "success-rate" in refused.stdout, refused.stderr
    assert lapactl("deploy", f"{MODEL}@production", "--port", 0, *here, *lab.at).exit_code == 26, "nobody promoted it"
    passed = promoted(lapactl, lab, FAIR, tmp_path)
    assert passed.exit_code == 0, passed.stdout + passed.stderr

    # To a robot.
    unhurried = tuple(f"--set={name}={value}" for name, value in UNHURRIED.items())
    deployed = lapactl_json("deploy", f"{MODEL}@production", "--port", 0, *unhurried, *here, *lab.at)
    assert (deployed["state"], deployed["version"], deployed["digest"]) == ("switched", 1, first["digest"])
    port = int(deployed["address"].rpartition(":")[2])
    robots = loyal, fresh = (Robot(port, keeps_connection=True), Robot(port, keeps_connection=False))
    for robot in robots:
        robot.start()
    wait_for(lambda: all(robot.has_met("1") and robot.episodes for robot in robots), "an episode of each robot")

    # A second version, while they move: no request is lost.
    lapactl_json("export", lab.bundles[1], f"{lab.bucket}/policies/two", *lab.at)
    assert promoted(lapactl, lab, FAIR, tmp_path).exit_code == 0
    (synced,) = lapactl_json("deploy", "sync", "--all", *here, *lab.at)
    assert (synced["did"], synced["version"]) == ("switched", 2)
    wait_for(lambda: fresh.has_met("2"), "the robot that connects anew meeting version 2")
    asked = loyal.asked
    wait_for(lambda: loyal.asked > asked and loyal.has_met("1"), "the other one staying with the version it began with")
    assert [robot.cuts for robot in robots] == [0, 0]
    assert fresh.versions == sorted(fresh.versions), "nobody goes back and forth"

    # Back, while the registry is away.
    lab.mlflow.kill()
    monkeypatch.setattr(registry_options, "WAIT_SECONDS", 0.5)
    assert lapactl("deploy", "sync", "--all", *here, *lab.at).exit_code == 7
    back = lapactl_json("deploy", "rollback", MODEL, "--reason", "drops the block", *here)
    assert (back["version"], back["replaced"]) == (1, 2)
    wait_for(lambda: fresh.has_met("1"), "the robot coming back to version 1")
    for robot in robots:
        robot.is_enough.set()
        robot.join(PATIENCE)
        assert robot.error is None and len(robot.versions) == robot.asked, "every question was answered"
    assert set(loyal.versions) == {"1"} and loyal.cuts == 0 and fresh.cuts <= 1

    # Whoever comes next sees what happened, and no sync goes forward again.
    lab.mlflow.start()
    monkeypatch.setattr(registry_options, "WAIT_SECONDS", PATIENCE)
    (status,) = lapactl_json("deploy", "status", *here, *lab.at)
    assert (status["state"], status["desired"]["version"], status["actual"]["version"]) == ("held", 2, 1)
    assert lapactl_json("deploy", "sync", "--all", *here, *lab.at)[0]["did"] == "unchanged"
