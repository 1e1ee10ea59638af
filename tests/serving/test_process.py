"""The server as a process: signals, exit codes, and what its clients see of them."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests
from policy_server import PATIENCE, TOKEN, free_port, serve_command, served_process, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lapa.client import PolicyClient, Reconnect
from lapa.client.wire import pack, unpack
from lapa.config.serving import TOKEN_VARIABLE, ServingConfig
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
    assert "event=drained" in (tmp_path / "log").read_text()


def test_while_draining_readiness_is_off_and_requests_are_still_taken(bundle, tmp_path, frame, state):
    """What a rolling switch needs: routers look elsewhere before anything is refused."""
    with served_process(bundle, tmp_path / "log", drain_seconds=3600) as (process, port):
        url = f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: requests.get(f"{url}/v2/health/ready", timeout=60).status_code == 503, "readiness going off")
        payload = {"image": frame.tolist(), "instruction": "push", "state": state.tolist()}
        assert requests.post(f"{url}/act", json=payload, headers=HEADERS, timeout=60).status_code == 200
        assert requests.get(f"{url}/healthz", timeout=60).json() == {"status": "draining"}
        process.send_signal(signal.SIGTERM)  # twice means now
        process.wait(PATIENCE)


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


def ended(settings: ServingConfig, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, TOKEN_VARIABLE: token}
    return subprocess.run(serve_command(settings), capture_output=True, text=True, env=environment, timeout=PATIENCE)


def test_another_bundle_than_the_one_that_was_promoted_is_not_served(bundle):
    done = ended(ServingConfig(bundle=str(bundle), port=0, expected_digest="0" * 64))
    assert done.returncode == 6 and "Somebody replaced the bundle" in done.stderr


def test_what_is_no_bundle_is_not_served(tmp_path):
    done = ended(ServingConfig(bundle=str(tmp_path / "nothing"), port=0))
    assert done.returncode == 6 and "no policy bundle" in done.stderr


@pytest.mark.parametrize(
    ("settings", "token", "words"),
    [
        ({"host": "0.0.0.0"}, "", "answer whoever asks"),
        ({}, "short", "at least 16"),
        ({"token_file": "/nowhere/token"}, "", "cannot be read"),
    ],
)
def test_a_server_that_anybody_could_use_does_not_start(bundle, settings, token, words):
    done = ended(ServingConfig(bundle=str(bundle), port=0, **settings), token)
    assert done.returncode == 2 and words in done.stderr


def test_an_address_in_use_is_an_error_with_a_remedy(bundle, server):
    done = ended(ServingConfig(bundle=str(bundle), port=server.port))
    assert done.returncode == 9 and "Take another --port" in done.stderr


def test_a_token_file_may_hold_two_tokens_while_one_replaces_the_other(bundle, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("the-old-token-of-robots\nthe-new-token-of-robots\n")
    with served_process(bundle, tmp_path / "log", token_file=str(tokens)) as (_, port):
        for token, status in (("the-old-token-of-robots", 200), ("the-new-token-of-robots", 200), (TOKEN, 401)):
            answer = requests.get(
                f"http://127.0.0.1:{port}/metadata", headers={"Authorization": f"Bearer {token}"}, timeout=60
            )
            assert answer.status_code == status


def test_the_command_becomes_the_server_so_that_signals_reach_it(bundle, tmp_path):
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-c", "from lapactl.main import app; app()", "serve", str(bundle), "--port", str(port)]
    paths = os.pathsep.join([".", "cli", "k8s"])
    with log.open("wb") as output:
        environment = {**os.environ, TOKEN_VARIABLE: TOKEN, "PYTHONPATH": paths}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        wait_for(lambda: b"event=ready" in log.read_bytes() or process.poll() is not None, "readiness")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        process.kill()
    assert TOKEN not in log.read_text()


def test_probes_answer_while_the_model_works(bundle, tmp_path, server, policy, monkeypatch, frame, state):
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
    started = time.monotonic()
    assert server.get("/healthz").status_code == 200 and server.get("/v2/health/ready").status_code == 200
    took = time.monotonic() - started
    may_end.set()
    asking.join(PATIENCE)
    assert answers[0].status_code == 200 and took < server.service.config.deadline_seconds
