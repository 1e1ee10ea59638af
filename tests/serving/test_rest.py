"""`POST /act` in every dialect that clients of OpenVLA and LAPA speak, and the probes beside it."""

import base64
import io
import json
import re

import json_numpy
import msgpack
import numpy as np
import pytest
import requests
from openpi_client import msgpack_numpy
from PIL import Image
from policy_server import PATIENCE, running

from lapa.serving.schemas import Metadata
from tests.serving.conftest import HORIZON


def png(frame: np.ndarray, format_: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format=format_)
    return base64.b64encode(buffer.getvalue()).decode()


IMAGES = {
    "lists": lambda frame: frame.tolist(),
    "json-numpy": lambda frame: json.loads(json_numpy.dumps(frame)),
    "png in base64": png,
    "data URL": lambda frame: f"data:image/png;base64,{png(frame)}",
}


@pytest.mark.parametrize("form", IMAGES)
def test_an_image_may_come_in_any_form(server, frame, state, expected, form):
    payload = {"image": IMAGES[form](frame), "instruction": "push the star", "proprioception": state.tolist()}
    answer = server.post(payload)
    assert answer.status_code == 200, answer.text
    actions = json_numpy.loads(answer.text)["actions"]
    assert np.allclose(actions, expected, atol=1e-6)


def test_an_answer_names_model_request_and_time(server, frame, state):
    payload = {"image": frame.tolist(), "instruction": "push", "state": state.tolist()}
    answer = server.post(payload, headers={"X-Request-Id": "robot-3.41"})
    record = answer.json()
    assert record["request_id"] == answer.headers["x-request-id"] == "robot-3.41"
    assert record["model"] == {"name": "tiny", "version": "7", "digest": server.service.model.policy.digest}
    assert record["server_timing"]["total_ms"] >= record["server_timing"]["infer_ms"] > 0
    assert record["clamped"] == 0


def test_the_metadata_are_what_the_document_says(server):
    """Every field and no other; schemathesis asks for no more than the status where a schema is loose."""
    told = server.get("/metadata").json()
    assert Metadata.model_validate(told).model_dump() == told


def test_a_request_id_that_could_spoil_a_log_is_replaced(server, frame, state):
    answer = server.get("/metadata")
    spoiled = requests.get(f"{server.url}/healthz", headers={"X-Request-Id": "a b=c" * 40}, timeout=PATIENCE)
    assert len(answer.headers["x-request-id"]) == len(spoiled.headers["x-request-id"]) == 32


def test_an_openvla_client_gets_the_bare_action_it_expects(server, frame, state, expected):
    """`requests.post(…, json={"image": array, "instruction": …, "unnorm_key": …}).json()`, json-numpy patched."""
    body = json_numpy.dumps({"image": frame, "instruction": "push the star", "unnorm_key": "bridge", "state": state})
    answer = server.post(path="/act?reply=action", data=body, headers={"Content-Type": "application/json"})
    action = json_numpy.loads(answer.text)
    assert isinstance(action, np.ndarray) and np.allclose(action, expected[0], atol=1e-6)


def test_json_inside_json_is_answered_in_kind(server, frame, state, expected):
    """What OpenVLA's and LAPA's clients send who cannot patch their JSON library."""
    inner = json_numpy.dumps({"image": frame, "instruction": "push the star", "state": state})
    answer = server.post({"encoded": inner}, path="/act?reply=chunk")
    assert np.allclose(json_numpy.loads(answer.json()), expected, atol=1e-6)


def test_msgpack_is_read_and_answered(server, frame, state, expected):
    body = msgpack_numpy.packb({"image": frame, "instruction": "push the star", "state": state})
    answer = server.post(data=body, headers={"Content-Type": "application/msgpack"})
    assert np.allclose(msgpack_numpy.unpackb(answer.content)["actions"], expected, atol=1e-6)


def test_jpeg_is_read_with_what_jpeg_loses(server, frame, state):
    smooth = np.tile(np.linspace(0, 255, 56).astype(np.uint8)[None, :, None], (40, 1, 3))
    payload = {"instruction": "push", "state": state.tolist()}
    exact = server.post({**payload, "image": smooth.tolist()}).json()["actions"]
    lossy = server.post({**payload, "image": png(smooth, "JPEG")}).json()["actions"]
    assert np.allclose(exact, lossy, atol=0.2)


BAD = {
    "no mapping": ([1, 2], "mapping"),
    "no image": ({"instruction": "push"}, "has no image 'image'; it has 'instruction'"),
    "no instruction": ({"image": [[[0, 0, 0]]], "state": [0, 0]}, "no instruction"),
    "instruction of numbers": ({"image": [[[0, 0, 0]]], "instruction": 3, "state": [0, 0]}, "an instruction is text"),
    "endless instruction": ({"image": [[[0, 0, 0]]], "instruction": "a" * 5000, "state": [0, 0]}, "at most 4000"),
    "grey image": ({"image": [[0, 0], [0, 0]], "instruction": "push"}, "shape"),
    "RGBA": ({"image": [[[0, 0, 0, 0]]], "instruction": "push"}, "uint8 RGB"),
    "no pixels": ({"image": [], "instruction": "push"}, "shape|whole"),
    "ragged": ({"image": [[[0, 0, 0]], [[0, 0]]], "instruction": "push"}, "no regular array"),
    "floats": ({"image": [[[0.5, 0.5, 0.5]]], "instruction": "push"}, "whole ones"),
    "300": ({"image": [[[300, 0, 0]]], "instruction": "push"}, "whole ones"),
    "two cameras": ({"left_image": [[[0] * 3]], "right_image": [[[0] * 3]], "instruction": "push"}, "--image-key"),
    "float array": (
        {"image": json.loads(json_numpy.dumps(np.zeros((4, 4, 3)))), "instruction": "push"},
        "type float64; send uint8",
    ),
    "no state": ({"image": [[[0, 0, 0]]], "instruction": "push"}, "looks at 2 numbers"),
    "state of another robot": ({"image": [[[0, 0, 0]]], "instruction": "push", "state": [0] * 7}, r"shape \(7,\)"),
    "words for a state": ({"image": [[[0, 0, 0]]], "instruction": "push", "state": "zero"}, "no regular array"),
    "a state beyond float32": ({"image": [[[0, 0, 0]]], "instruction": "push", "state": [1e300, 0]}, "NaN or inf"),
    "bytes that are no picture": (
        {"image": base64.b64encode(b"GIF89a" * 4).decode(), "instruction": "push"},
        "no JPEG or PNG",
    ),
    "half a picture": (
        {"image": png(np.zeros((9, 9, 3), np.uint8))[:60], "instruction": "push"},
        "decoded|no JPEG",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_observation_is_named_and_refused(server, name):
    payload, message = BAD[name]
    answer = server.post(payload)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["reason"] == "malformed"
    assert re.search(message, error["message"]), error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"state": NaN}', b'{"state": Infinity}', b"1" * 5000, b"null"]
)
def test_a_body_that_is_no_json_is_refused(server, body):
    answer = server.post(data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["reason"] == "malformed"


def test_bad_parameters_and_places_have_the_same_form_of_error(server):
    for answer, status in (
        (server.post({}, path="/act?reply=everything"), 400),
        (server.post({}, path="/act?deadline_seconds=-1"), 400),
        (server.get("/nothing/here"), 404),
        (server.get("/act"), 405),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"reason", "message", "request_id"}


def test_probes_answer_without_a_token_and_say_little(server):
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
        answer = requests.get(server.url + path, timeout=PATIENCE)
        assert answer.status_code == 200 and answer.json() == {"status": "ready"}


def test_metrics_count_what_was_asked(server, frame, state):
    answered, refused = (server.metric("requests_total", protocol="rest", outcome=o) for o in ("ok", "malformed"))
    server.post({"image": frame.tolist(), "instruction": "push", "state": state.tolist()})
    server.post({})
    text = server.get("/metrics").text
    assert f'lapa_serving_requests_total{{outcome="ok",protocol="rest"}} {answered + 1}' in text
    assert f'lapa_serving_requests_total{{outcome="malformed",protocol="rest"}} {refused + 1}' in text
    assert 'lapa_serving_model_info{digest="' in text and "lapa_serving_ready 1.0" in text


def test_metrics_may_be_open_where_the_scraper_has_no_token(bundle):
    with running(bundle, has_open_metrics=True) as server:
        assert requests.get(f"{server.url}/metrics", timeout=PATIENCE).status_code == 200
        assert requests.get(f"{server.url}/metadata", timeout=PATIENCE).status_code == 401


def test_the_camera_of_a_robot_with_several_is_named(bundle, frame, state, expected):
    with running(bundle, image_key="wrist/rgb", state_key="arm") as server:
        payload = {"wrist": {"rgb": frame.tolist()}, "image": "", "task": "push the star", "arm": state.tolist()}
        assert np.allclose(server.post(payload).json()["actions"], expected, atol=1e-6)


def test_the_chunk_is_as_long_as_the_horizon(server, frame, state):
    payload = {"image": frame.tolist(), "instruction": "push", "state": state.tolist()}
    assert np.shape(server.post(payload, path="/act?reply=chunk").json()) == (HORIZON, 3)


def test_an_unknown_msgpack_is_refused(server):
    for body in (b"\xc1", b"", msgpack.packb([1, 2]), b"\x81" * 1000):
        answer = server.post(data=body, headers={"Content-Type": "application/msgpack"})
        assert answer.status_code == 400, body
