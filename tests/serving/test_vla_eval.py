"""The evaluation harness `vla-eval` runs its own loop against the server, without an adapter of ours."""

import time
from typing import Any, ClassVar

import numpy as np
import pytest
from policy_server import PATIENCE, TOKEN
from vla_eval import api
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.specs import DimSpec
from websockets.sync.client import connect

from lapa.client.wire import pack, unpack
from tests.serving.conftest import HORIZON


class Reaching(StepBenchmark):
    """Two tasks of five steps; remembers which actions it was given."""

    render_backends: ClassVar[frozenset[str]] = frozenset({"gpu", "cpu"})
    given: ClassVar[list[np.ndarray]] = []

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        return {}

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": "push", "suite": "toy"}, {"name": "pull", "suite": "toy"}]

    def reset(self, task: dict[str, Any]) -> int:
        return 0

    def step(self, action: dict[str, Any]) -> StepResult:
        self.given.append(action["actions"])
        done = self._last_result.obs + 1
        return StepResult(obs=done, reward=0.0, done=done == 5, info={"success": True})

    def make_obs(self, raw_obs: int, task: dict[str, Any]) -> dict[str, Any]:
        image = np.full((32, 32, 3), 10 * raw_obs, dtype=np.uint8)
        return {"images": {"front": image}, "task_description": task["name"], "state": np.zeros(2)}

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": bool(step_result.info.get("success"))}

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        return {}


@pytest.fixture
def address(server) -> str:
    """The harness sends no headers: the token stands in the address."""
    return f"ws://harness:{TOKEN}@127.0.0.1:{server.port}/vla-eval"


@pytest.mark.parametrize("skew", [-1e9, 1e9])
def test_a_robot_whose_clock_is_wrong_is_answered(address, skew):
    """Tokens hold no time, and deadlines are lengths of time, so nothing depends on two clocks."""
    payload = {"images": {"front": np.zeros((32, 32, 3), np.uint8)}, "task_description": "push", "state": np.zeros(2)}
    message = {"type": "observation", "payload": payload, "seq": 1, "timestamp": time.time() + skew}
    with connect(address) as robot:
        robot.send(pack(message))
        answer = unpack(robot.recv(timeout=PATIENCE))
    assert answer["type"] == "action" and abs(answer["timestamp"] - time.time()) < PATIENCE


def test_the_harness_runs_its_benchmark_against_the_server(server, address, tmp_path):
    Reaching.given.clear()
    before = server.metric("episodes_total")
    asked = server.metric("requests_total", protocol="vla-eval", outcome="ok")
    config = {"benchmarks": [{"benchmark": f"{__name__}:Reaching", "episodes_per_task": 2, "max_steps": 10}]}
    config["server"] = {"timeout": PATIENCE}
    (result,) = api.run(config, server_url=address, output_dir=tmp_path, no_save=True, docker=False)
    assert result["mean_success"] == 1.0
    assert server.metric("episodes_total") == before + 4
    assert len(Reaching.given) == 4 * 5 and all(action.shape == (3,) for action in Reaching.given)
    # Five steps are two chunks of three, and an episode never goes on with the last one's chunk.
    assert server.metric("requests_total", protocol="vla-eval", outcome="ok") == asked + 4 * 2
    assert HORIZON == 3
