"""The server as a process: signals, exit codes, and what its clients see of them."""

import signal
import threading

import numpy as np
import pytest
import requests
from policy_server import PATIENCE, TOKEN, free_port, served_process, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lapa.client import PolicyClient, Reconnect
from lapa.client.wire import pack, unpack
from lapa.config.serving import ServingConfig
from lapa.errors import PolicyError, ServingError
from lapa.serving.server import serve
from tests.serving.conftest import HORIZON

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def message(frame, state) -> bytes:
    return pack({"image": frame, "prompt": "push", "state": state})


def test_sigterm_answers_what_was_asked_then_says_connect_again(bundle, tmp_path, frame, state):
    """Two robots: one waits for an answer and one does not, when the signal comes."""
    with served_process(bundle, tmp_path / "log", grace_seconds=60) as (process, port):
        busy, idle = (connect(f"ws://127.0.0.1:{port}", additional_headers=HEADERS) for _ in range(2))
        busy.recv(), idle.recv()
        busy.send(message(frame, state))
        process.send_signal(signal.SIGTERM)
        assert unpack(busy.recv(timeout=PATIENCE))["actions"].shape == (HORIZON, 3)
        for robot in (busy, idle):
            with pytest.raises(ConnectionClosed):
                robot.recv(timeout=PATIENCE)
            assert robot.close_code == 1012
        assert process.wait(PATIENCE) == 0
    log = (tmp_path / "log").read_text()
    assert "event=drained" in log and TOKEN not in log


def test_while_draining_readiness_is_off_and_requests_are_still_taken(bundle, tmp_path, frame, state):
    """What a rolling switch needs: routers look elsewhere before anything is refused."""
    with served_process(bundle, tmp_path / "log", drain_seconds=3600) as (process, port):
        url = f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        wait_for(
            lambda: requests.get(f"{url}/v2/health/ready", timeout=PATIENCE).status_code == 503, "readiness going off"
        )
        payload = {"image": frame.tolist(), "instruction": "push", "state": state.tolist()}
        assert requests.post(f"{url}/act", json=payload, headers=HEADERS, timeout=PATIENCE).status_code == 200
        assert requests.get(f"{url}/healthz", timeout=PATIENCE).json() == {"status": "draining"}
        process.send_signal(signal.SIGTERM)  # twice means now
        process.wait(PATIENCE)


@pytest.mark.slow
def test_a_robot_rides_over_a_server_that_is_killed_and_comes_back(bundle, tmp_path, frame, state):
    port = free_port()
    with served_process(bundle, tmp_path / "log", port=port) as (process, _):
        client = PolicyClient(f"ws://127.0.0.1:{port}", token=TOKEN, reconnect=Reconnect(seconds=PATIENCE))
        before = client.infer(frame, "push", state)
        process.kill()
        process.wait()
        after = []
        asking = threading.Thread(target=lambda: after.append(client.infer(frame, "push", state)))
        asking.start()
        with served_process(bundle, tmp_path / "log", port=port):
            asking.join(PATIENCE)
            assert np.array_equal(before.actions, after[0].actions)
            client.close()


def test_another_bundle_than_the_one_that_was_promoted_is_not_served(bundle):
    with pytest.raises(PolicyError, match="Somebody replaced the bundle"):
        serve(ServingConfig(bundle=str(bundle), port=0, expected_digest="0" * 64))


@pytest.mark.parametrize("names", [("x", "y"), ("y", "x", "gripper"), ("x", "y", "gripper", "wrist")])
def test_a_policy_of_another_robot_is_not_served(bundle, names):
    with pytest.raises(PolicyError, match=r"answers with 3 numbers \(x, y, gripper\); the robot takes"):
        serve(ServingConfig(bundle=str(bundle), port=0, robot={"actions": [{"name": name} for name in names]}))


def test_what_is_no_bundle_is_not_served(tmp_path):
    with pytest.raises(PolicyError, match="no policy bundle"):
        serve(ServingConfig(bundle=str(tmp_path / "nothing"), port=0))


def test_an_address_in_use_is_an_error_with_a_remedy(bundle, server):
    with pytest.raises(ServingError, match="Take another --port"):
        serve(ServingConfig(bundle=str(bundle), port=server.port))


def test_probes_answer_while_the_model_works(server, policy, monkeypatch, frame, state):
    """Liveness that waited for the model would have the busiest server killed."""
    began, may_end = threading.Event(), threading.Event()

    def slow(observations, _):
        began.set()
        assert may_end.wait(PATIENCE)
        return np.zeros((len(observations), HORIZON, 3))

    monkeypatch.setattr(policy, "propose", slow)
    payload = {"image": frame.tolist(), "instruction": "push", "state": state.tolist()}
    answers = []
    asking = threading.Thread(target=lambda: answers.append(server.post(payload)))
    asking.start()
    assert began.wait(PATIENCE)
    assert server.get("/healthz").status_code == 200 and server.get("/v2/health/ready").status_code == 200
    may_end.set()
    asking.join(PATIENCE)
    assert answers[0].status_code == 200
