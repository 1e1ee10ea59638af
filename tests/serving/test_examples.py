"""The example loops drive a real server."""

import importlib.util
import os

import numpy as np
import pytest
from policy_server import PATIENCE, TOKEN, running

from lapa.client import ActionAnswer, ChunkBuffer, Reconnect
from lapa.client.connection import ServerAway
from lapa.config.serving import TOKEN_VARIABLE
from lapa.config.stages import TabletopEvaluation
from lapa.config.vla import L1Head
from lapa.envs.build import build_simulator
from lapa.envs.evaluation import evaluate
from lapa.models.vla.action_space import fit_action_space
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle, load_bundle
from tests.models.vla.models import seeded, small_convolutional, spec_of


def example(repository, name):
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tabletop_bundle(tmp_path):
    """An untrained policy with the tabletop's actions."""
    names = build_simulator(TabletopEvaluation(), image_size=24).action_names
    actions = np.random.default_rng(0).uniform(-1, 1, (100, len(names)))
    spec = spec_of(small_convolutional(), L1Head(horizon=4), latent=False, frame_size=24)
    save_vla(tmp_path / "model", seeded(spec.model_copy(update={"actions": fit_action_space(actions, names)})))
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={})
    return tmp_path / "bundle"


def test_the_tabletop_is_driven_through_the_server_as_it_is_without(repository, tabletop_bundle, monkeypatch, capsys):
    """Same episodes, same policy: the closed loop over the network ends every episode at the same timestep."""
    loop = example(repository, "tabletop_through_server")
    simulator = build_simulator(TabletopEvaluation(episodes=12, max_steps=12), image_size=24)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with running(tabletop_bundle) as server:
        assert loop.main([server.ws_url, "--episodes", "12"]) == 0
        with loop.PolicyClient(server.ws_url, token=TOKEN) as client:
            remote = evaluate(loop.Remote(client), simulator)
    local = evaluate(load_bundle(str(tabletop_bundle), device="cpu").act, simulator)
    assert remote.success.tolist() == local.success.tolist() and remote.steps.tolist() == local.steps.tolist()
    assert "over 12 episodes" in capsys.readouterr().out


def test_the_robot_loop_executes_its_timesteps_and_holds(repository, server, monkeypatch, capsys):
    loop = example(repository, "robot_loop")
    monkeypatch.setitem(os.environ, TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr(loop, "Reconnect", lambda **_: Reconnect(seconds=PATIENCE, answer_seconds=PATIENCE))
    assert loop.main([server.ws_url, "push", "--dry-run", "--hz", "200", "--timesteps", "7"]) == 0
    assert "7 actions, then: done" in capsys.readouterr().out


def test_the_robot_holds_when_the_server_is_gone(repository):
    class Gone:
        def reset(self):
            return ""

        def infer(self, *_):
            raise ServerAway("nobody there")

    loop = example(repository, "robot_loop")
    robot = loop.DryRobot(("x", "y"), 0)
    ended = loop.run(robot, ChunkBuffer(Gone()), "push", hz=10, timesteps=5)
    assert ended == "the server is away: nobody there" and robot.held == 1 and not robot.commands


def test_the_robot_loop_keeps_its_rate_and_never_hurries(repository):
    """A clock of the test's own: one slow answer delays the rest, and is not made up for."""

    class Slow:
        def reset(self):
            return ""

        def infer(self, *_):
            now[0] += 0.35
            return loop_answer

    loop_answer = ActionAnswer(actions=np.zeros((3, 2)), model={}, timing={}, clamped=0, request_id="")
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(round(seconds, 6))
        now[0] += seconds

    loop = example(repository, "robot_loop")
    robot = loop.DryRobot(("x", "y"), 0)
    loop.run(robot, ChunkBuffer(Slow()), "push", hz=10, timesteps=4, clock=lambda: now[0], sleep=sleep)
    assert slept == [0.1, 0.1] and len(robot.commands) == 4 and robot.held == 1
