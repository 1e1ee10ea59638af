"""The client that a robot's program imports."""

import subprocess
import sys
import time

import numpy as np
import pytest
from policy_server import PATIENCE, TOKEN, free_port

from lapa.client import PolicyClient, Reconnect
from lapa.client.connection import ServerAway, ServerRefused
from lapa.client.wire import pack, unpack


def client_of(server, **settings) -> PolicyClient:
    return PolicyClient(
        server.ws_url, token=TOKEN, reconnect=Reconnect(seconds=PATIENCE, answer_seconds=PATIENCE), **settings
    )


def test_a_robot_gets_actions_and_knows_whose(server, frame, state, expected):
    with client_of(server, action_names=("x", "y", "gripper")) as client:
        client.reset()
        answer = client.infer(frame, "push the star", state)
        assert np.allclose(answer.actions, expected, atol=1e-6)
        assert answer.model["version"] == "7" and answer.clamped == 0 and answer.timing["total_ms"] > 0
        assert client.metadata["horizon"] == len(answer.actions)


def test_a_policy_of_another_robot_is_refused_before_anything_moves(server):
    with client_of(server, action_names=("joint_1", "joint_2")) as client:
        with pytest.raises(ServerRefused, match=r"actions \['x', 'y', 'gripper'\], this robot takes") as error:
            client.reset()
        assert error.value.reason == "mismatch"


def test_a_refusal_has_a_reason_and_is_not_tried_again(server, frame):
    with client_of(server) as client:
        with pytest.raises(ServerRefused, match="looks at 2 numbers") as error:
            client.infer(frame, "push")
        assert error.value.reason == "malformed"


def test_a_wrong_token_is_told_at_once(server):
    with pytest.raises(ServerRefused, match="check the token"):
        PolicyClient(server.ws_url, token="wrong-token-of-a-decent-length").reset()


def test_a_server_that_stays_away_is_given_up_after_the_time_that_was_set():
    url = f"ws://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(ServerAway, match="Is the server running"):
        PolicyClient(url, reconnect=Reconnect(seconds=0.3)).reset()
    assert time.monotonic() - started >= 0.3


def test_a_lost_connection_is_made_anew(server, frame, state, expected):
    with client_of(server) as client:
        client.reset()
        client._connection.socket.close()
        assert np.allclose(client.infer(frame, "push the star", state).actions, expected, atol=1e-6)


def test_the_client_loads_nothing_heavy(repository):
    code = "import sys, lapa.client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    heavy = {"torch", "fastapi", "pydantic", "fsspec", "typer", "rich", "yaml", "PIL", "cv2", "mlflow", "uvicorn"}
    assert not heavy.intersection(done.stdout.split())


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8", "?", "f2"])
def test_arrays_travel_as_they_are(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    back = unpack(pack({"array": array, "number": array[1, 1]}))
    assert back["array"].dtype == array.dtype and np.array_equal(back["array"], array) and back["number"] == array[1, 1]


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([object()]), object(), 2**70])
def test_what_has_no_form_is_refused_before_it_is_sent(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        pack({"value": value})
