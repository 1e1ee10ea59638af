"""The public `openpi-client` package drives the server unchanged."""

import numpy as np
import pytest
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from policy_server import TOKEN
from websockets.exceptions import InvalidStatus

from lapa.policy.policy import frames_to_images
from tests.serving.conftest import HORIZON


@pytest.fixture
def client(server):
    client = WebsocketClientPolicy("127.0.0.1", server.port, api_key=TOKEN)
    yield client
    client._ws.close()


def openpi_observation(frame, state):
    """As openpi's LIBERO example names things; this policy has one camera."""
    return {"observation/image": frame, "observation/state": state, "prompt": "push the star"}


def test_the_openpi_client_gets_what_the_policy_answers(client, server, frame, state, expected):
    answer = client.infer(openpi_observation(frame, state))
    assert answer["actions"].dtype == np.float32 and answer["actions"].shape == (HORIZON, 3)
    assert np.allclose(answer["actions"], expected, atol=1e-6)
    assert answer["model"] == {"name": "tiny", "version": "7", "digest": server.service.model.policy.digest}
    assert answer["server_timing"]["infer_ms"] > 0


def test_metadata_comes_with_the_connection(client, server):
    metadata = client.get_server_metadata()
    assert metadata["action_names"] == ["x", "y", "gripper"] and metadata["horizon"] == HORIZON
    assert metadata["digest"] == server.service.model.policy.digest and metadata["proprioception_dims"] == 2


def test_the_openpi_chunk_broker_plays_a_chunk_action_by_action(client, frame, state, expected):
    broker = ActionChunkBroker(client, HORIZON)
    actions = [broker.infer(openpi_observation(frame, state))["actions"] for _ in range(HORIZON + 1)]
    assert np.allclose(actions, [*expected, expected[0]], atol=1e-6)


def test_an_error_is_text_and_the_connection_goes_on(client, frame, state, expected):
    with pytest.raises(RuntimeError, match="malformed: the observation has no 'proprioception'") as error:
        client.infer({"observation/image": frame, "prompt": "push the star"})
    assert "Traceback" not in str(error.value)
    assert np.allclose(client.infer(openpi_observation(frame, state))["actions"], expected, atol=1e-6)


def test_a_reset_begins_an_episode_alone_or_with_an_observation(client, server, frame, state):
    before = server.metric("episodes_total")
    assert client.infer({"reset": True})["reset"] is True
    assert "actions" in client.infer({**openpi_observation(frame, state), "reset": True})
    assert server.metric("episodes_total") == before + 2


@pytest.mark.parametrize("key", [None, "wrong-token-of-a-decent-length"])
def test_without_its_token_a_client_gets_no_connection(server, key):
    with pytest.raises(InvalidStatus) as error:
        WebsocketClientPolicy("127.0.0.1", server.port, api_key=key)
    assert error.value.response.status_code == 401


def test_the_model_meets_the_tensor_that_training_met(client, server, policy, monkeypatch, frame, state):
    """A camera frame through openpi's client, then the resize of ingest; what the network is given is compared."""
    seen = []
    predict = policy.model.predict_actions

    def spy(images, *arguments):
        seen.append(images)
        return predict(images, *arguments)

    monkeypatch.setattr(policy.model, "predict_actions", spy)
    client.infer(openpi_observation(frame, state))
    assert (seen[0] == frames_to_images([frame], policy.spec)).all()
