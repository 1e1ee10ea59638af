"""What may not leave the server for a robot."""

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from policy_server import TOKEN, running, wait_for

from lapa.errors import PolicyError
from lapa.serving.bounds import ActionBounds, NotFinite, OutOfBounds
from tests.models.vla.models import two_dims_and_a_gripper
from tests.serving.conftest import HORIZON, make_bundle

SPACE = two_dims_and_a_gripper()


def chunk(**values: float) -> np.ndarray:
    """One quiet action, with some of its numbers replaced."""
    action = dict.fromkeys(SPACE.names, 0.0) | values
    return np.array([[action[name] for name in SPACE.names]])


def test_a_chunk_inside_the_range_leaves_as_it_is():
    checked = ActionBounds(SPACE, "refuse").check(chunk(x=0.5))
    assert np.array_equal(checked.actions, chunk(x=0.5).astype(np.float32)) and checked.outside == (0, 0, 0)


def test_the_ends_of_the_range_are_inside_whatever_float32_makes_of_them():
    ends = np.array([[d.min for d in SPACE.dimensions], [d.max for d in SPACE.dimensions]], dtype=np.float32)
    assert ActionBounds(SPACE, "refuse").check(ends).outside == (0, 0, 0)


def test_clamping_brings_an_action_into_range_and_counts_it():
    checked = ActionBounds(SPACE, "clamp").check(chunk(x=100.0, gripper=-3.0))
    assert checked.outside == (1, 0, 1)
    assert checked.actions[0, 0] == np.float32(SPACE.dimensions[0].max) and checked.actions[0, 2] == 0


def test_refusing_names_the_dimension_and_the_range():
    with pytest.raises(OutOfBounds, match=r"x=100, outside the recorded range \[-3.*2\.7.*not sent"):
        ActionBounds(SPACE, "refuse").check(chunk(x=100.0))


@pytest.mark.parametrize("handling", ["clamp", "refuse"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_passes(handling, value):
    with pytest.raises(NotFinite, match=r"infinite values for y; stop the robot"):
        ActionBounds(SPACE, handling).check(chunk(y=value))


def ask(server, frame, state):
    return server.post({"image": frame.tolist(), "instruction": "push", "state": state.tolist()})


def test_a_nan_becomes_an_error_in_every_protocol(server, policy, monkeypatch, frame, state):
    before = server.metric("actions_not_finite_total")
    monkeypatch.setattr(policy, "propose", lambda observations, _: np.full((len(observations), HORIZON, 3), np.nan))
    answer = ask(server, frame, state)
    assert answer.status_code == 500 and answer.json()["error"]["reason"] == "unsafe_action"
    assert "NaN" in answer.json()["error"]["message"] and "actions" not in answer.json()
    client = WebsocketClientPolicy("127.0.0.1", server.port, api_key=TOKEN)
    with pytest.raises(RuntimeError, match=r"unsafe_action.*stop the robot"):
        client.infer({"image": frame, "prompt": "push", "state": state})
    client._ws.close()
    assert server.metric("actions_not_finite_total") == before + 2


def test_one_robots_nan_is_not_anothers(server, policy, monkeypatch, frame, state):
    """The same forward pass gives one good chunk and one that is none: the good one leaves."""

    def half(observations, _):
        actions = np.zeros((len(observations), HORIZON, 3))
        actions[[observation.image.max() == 0 for observation in observations]] = np.nan
        return actions

    monkeypatch.setattr(policy, "propose", half)
    assert ask(server, frame, state).status_code == 200
    assert ask(server, np.zeros_like(frame), state).status_code == 500
    assert ask(server, frame, state).status_code == 200


def counted_outside(server, handling: str) -> float:
    return sum(server.metric("actions_out_of_bounds_total", dimension=d, handling=handling) for d in SPACE.names)


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """A policy whose regressed actions leave the recorded range."""
    return make_bundle(tmp_path_factory.mktemp("wild"), scale=1000.0)


def test_a_wild_policy_is_clamped_and_counted(wild, frame, state):
    with running(wild) as server:
        record = ask(server, frame, state).json()
        card = server.get("/metadata").json()
        assert record["clamped"] > 0
        actions = np.array(record["actions"])
        assert (actions >= np.float32(card["action_low"])).all() and (actions <= np.float32(card["action_high"])).all()
        assert counted_outside(server, "clamped") == record["clamped"]


def test_a_wild_policy_is_refused_where_that_is_asked_for(wild, frame, state):
    with running(wild, bounds="refuse") as server:
        answer = ask(server, frame, state)
        assert answer.status_code == 500 and "outside the recorded range" in answer.json()["error"]["message"]
        assert counted_outside(server, "refused") > 0


def test_a_policy_that_answers_the_warm_up_with_nan_is_never_ready(tmp_path, frame, state):
    broken = make_bundle(tmp_path, scale=float("nan"))
    with running(broken, is_awaited=False) as server:
        error = wait_for(lambda: server.service.error, "the load's end")
        assert isinstance(error, PolicyError) and "not served" in str(error)
        assert ask(server, frame, state).status_code == 503
        assert server.get("/v2/health/ready").status_code == 503 and server.get("/healthz").status_code == 200
