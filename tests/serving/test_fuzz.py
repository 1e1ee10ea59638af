"""Frames that nobody meant: whatever comes, the server says what is wrong with it and goes on."""

import struct
from collections.abc import Callable

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_server import PATIENCE, TOKEN
from websockets.sync.client import connect

from lapa.client.wire import pack, unpack
from lapa.serving.bodies import parse_body
from lapa.serving.observations import Asked, ObservationReader
from lapa.serving.refusals import Refusal

READER = ObservationReader(proprioception_dims=2, max_pixels=2**16)
GOOD = pack({"image": np.zeros((4, 4, 3), np.uint8), "prompt": "push", "state": np.zeros(2, np.float32)})

NAMES = st.text(max_size=6) | st.binary(max_size=6)
WHOLE = st.integers(-(2**63), 2**64 - 1)
SCALARS = st.one_of(st.none(), st.booleans(), WHOLE, st.floats(), st.text(max_size=12), st.binary(max_size=12))
ARRAYS = st.fixed_dictionaries(
    {
        b"__ndarray__": SCALARS,
        b"data": st.binary(max_size=64) | SCALARS,
        b"dtype": st.sampled_from(["|u1", "<f4", "|O"]) | SCALARS,
        b"shape": st.lists(st.integers(-2, 2**40), max_size=9) | SCALARS,
    }
)
NUMBERS = st.fixed_dictionaries(
    {b"__npgeneric__": SCALARS, b"data": SCALARS, b"dtype": st.sampled_from(["<f4", "<i8", "|b1"]) | SCALARS}
)
VALUES = st.recursive(
    SCALARS | ARRAYS | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["image", "images", "observation/image", "state", "prompt", "instruction", "reset", "task"])
OBSERVATIONS = st.dictionaries(FIELDS, VALUES, max_size=5)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good frame with some bytes changed, lost, doubled or added."""
    data = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0 if place < len(data):
                data[place] = draw(st.integers(0, 255))
            case 1:
                del data[place : place + draw(st.integers(1, 9))]
            case 2:
                data[place:place] = data[place : place + draw(st.integers(1, 9))]
            case _:
                data[place:place] = draw(st.binary(min_size=1, max_size=5))
    return bytes(data)


@st.composite
def boasting(draw: st.DrawFn) -> bytes:
    """Headers of msgpack that announce more than there is."""
    head = draw(st.sampled_from([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"]))
    return head + struct.pack(">I", draw(st.integers(0, 2**32 - 1))) + draw(st.binary(max_size=20))


FRAMES = st.binary(max_size=200) | damaged() | boasting() | OBSERVATIONS.map(msgpack.packb) | VALUES.map(msgpack.packb)


def refusal_or(read: Callable[[], Asked | None]) -> Asked | Refusal | None:
    """What reading ends in; anything but these is a defect."""
    try:
        return read()
    except Refusal as refusal:
        return refusal


def read_frame(frame: bytes) -> Asked | None:
    """As the server reads one; None for what is no msgpack."""
    try:
        payload = unpack(frame)
    except ValueError:
        return None
    return READER.read(payload)


def check_reading(frame: bytes) -> None:
    match refusal_or(lambda: read_frame(frame)):
        case Refusal() as refusal:
            assert refusal.status in (400, 413) and str(refusal)
        case Asked() as asked:
            image, state = asked.observation.image, asked.observation.proprioception
            assert image.dtype == np.uint8 and image.ndim == 3 and 1 <= image.shape[0] * image.shape[1] <= 2**16
            assert state.shape == (2,) and np.isfinite(state).all()


QUICK = settings(
    max_examples=400, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=60_000, derandomize=False)


@QUICK
@given(FRAMES)
def test_any_frame_is_an_observation_that_was_checked_or_a_refusal(frame):
    check_reading(frame)


@pytest.mark.slow
@LONG
@given(FRAMES)
def test_any_frame_is_an_observation_that_was_checked_or_a_refusal_at_length(frame):
    check_reading(frame)


BODIES = st.binary(max_size=200) | st.text().map(str.encode)
KINDS = st.sampled_from(["application/json", "application/msgpack", "", "a;b"])


@QUICK
@given(BODIES, KINDS)
def test_any_body_is_read_or_refused(data, kind):
    result = refusal_or(lambda: READER.read(parse_body(data, kind).payload))
    assert not isinstance(result, Refusal) or result.status in (400, 413)


def converse(server, frames) -> None:
    """Every frame gets one answer, on a connection that stays; then the server still knows a good one."""
    with connect(server.ws_url, additional_headers={"Authorization": f"Bearer {TOKEN}"}, compression=None) as robot:
        robot.recv()
        for frame in frames:
            robot.send(frame)
            reply = robot.recv(timeout=PATIENCE)
            if isinstance(reply, bytes):
                assert {"actions", "reset"} & set(unpack(reply))
            else:
                assert reply.partition(":")[0] == "malformed" and "Traceback" not in reply
        robot.send(GOOD)
        assert unpack(robot.recv(timeout=PATIENCE))["actions"].shape[1] == 3


def test_the_server_answers_a_conversation_of_nonsense(server):
    @settings(QUICK, max_examples=15)
    @given(st.lists(FRAMES, min_size=10, max_size=20))
    def attempt(frames):
        converse(server, frames)

    attempt()


@pytest.mark.slow
def test_the_server_answers_a_conversation_of_nonsense_at_length(server):
    @settings(LONG, max_examples=500)
    @given(st.lists(FRAMES, min_size=10, max_size=40))
    def attempt(frames):
        converse(server, frames)

    attempt()


def test_the_harness_protocol_answers_nonsense_too(server):
    @settings(QUICK, max_examples=15)
    @given(st.lists(FRAMES, min_size=5, max_size=10))
    def attempt(frames):
        url = f"{server.ws_url}/vla-eval"
        with connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}, compression=None) as robot:
            for frame in frames:
                robot.send(frame)
                reply = msgpack.unpackb(robot.recv(timeout=PATIENCE))
                assert reply["type"] == "error" and reply["payload"]["error"].startswith("malformed")

    attempt()
