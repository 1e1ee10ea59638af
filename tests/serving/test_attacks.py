"""What an exposed port meets, and what peers' servers suffered: each ends in a refusal, and the server goes on."""

import base64
import contextlib
import io
import json
import pickle
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest
import requests
from PIL import Image
from policy_server import PATIENCE, TOKEN, Running, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lapa.client.wire import pack, unpack

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def _the_server_goes_on(server, frame, state):
    """After each attack a robot still gets its action."""
    yield
    answer = server.post({"image": frame.tolist(), "instruction": "push", "state": state.tolist()})
    assert answer.status_code == 200, answer.text


@pytest.fixture
def socket_of(server):
    """A raw connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """Until the server closes; a reset is a way to close."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def session(server):
    connection = connect(server.ws_url, additional_headers=AUTHORIZED, compression=None, max_size=None)
    connection.recv()
    return connection


def closing_code(connection, message) -> int | None:
    """What the server closes the connection with on this message, whole or in fragments."""
    try:
        connection.send(message)
        connection.recv(timeout=PATIENCE)
    except ConnectionClosed:
        return connection.close_code
    raise AssertionError("the server took the message")


# Pickle


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_no_pickle_is_ever_loaded(server, tmp_path, frame, state):
    canary = tmp_path / "unpickled"
    evil = pickle.dumps(Canary(canary))
    pickle.loads(evil)
    assert canary.exists(), "the canary works"
    canary.unlink()
    text = base64.b64encode(evil).decode()
    array = {"__numpy__": text, "dtype": "|O", "shape": [1]}
    packed = {b"__ndarray__": True, b"data": evil, b"dtype": "|O", b"shape": [1]}
    rest = {"instruction": "push", "state": state.tolist()}
    for payload in ({"image": text}, {"image": array}, {"image": frame.tolist(), "state": array}, {"encoded": text}):
        assert server.post({**rest, **payload}).status_code == 400
    for body in (evil, msgpack.packb({"image": packed}), msgpack.packb(msgpack.ExtType(1, evil))):
        for kind in ("msgpack", "json", "octet-stream", "python-pickle"):
            assert server.post(data=body, headers={"Content-Type": f"application/{kind}"}).status_code == 400
    connection = session(server)
    for body in (evil, msgpack.packb({"image": packed}), pack({"image": evil, "prompt": "push", "state": state})):
        connection.send(body)
        assert isinstance(connection.recv(), str)
    connection.close()
    assert not canary.exists()


# Paths


def test_no_text_is_ever_opened_as_a_file(server, tmp_path, state):
    """The file is a good picture, and the server could read it; the audit hook would see it try."""
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(picture)
    opened: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple) -> None:
        if is_watching and event == "open" and "picture.png" in str(arguments[0]):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    places = [str(picture), f"file://{picture}", f"data:{picture}", f"data:image/png,{picture}", "picture.png"]
    places += [base64.b64encode(str(picture).encode()).decode(), "/etc/hostname", "s3://bucket/a.png", "http://[::1]/a"]
    for place in places:
        for payload in ({"image": place}, {"image": {"path": place}}, {"image": [place]}, {"image_path": place}):
            answer = server.post({**payload, "instruction": "push", "state": state.tolist()})
            assert answer.status_code == 400, (place, answer.text)
    connection = session(server)
    for place in places:
        connection.send(pack({"image": place, "prompt": "push", "state": state}))
        assert connection.recv().startswith("malformed")
    connection.close()
    is_watching = False
    assert not opened


# Size


def test_a_body_that_says_it_is_large_is_refused_unread(server, socket_of):
    head = f"POST /act HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 99999999999\r\n\r\n"
    socket_of.sendall(head.encode())
    assert everything(socket_of).startswith(b"HTTP/1.1 413")


def test_a_body_that_grows_too_large_is_cut_off(server, socket_of):
    head = f"POST /act HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    socket_of.sendall(head.encode())
    chunk = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
    try:
        for _ in range(64):  # 4 MiB, of which 1 MiB is taken
            socket_of.sendall(chunk)
    except (BrokenPipeError, ConnectionResetError):
        return  # the server closed while we were still sending
    assert everything(socket_of).startswith(b"HTTP/1.1 413")


def test_a_frame_that_is_too_large_ends_its_connection(server):
    assert closing_code(session(server), b"\x00" * (2**20 + 1)) == 1009


def test_fragments_that_add_up_to_too_much_end_their_connection(server):
    assert closing_code(session(server), [b"\x00" * 2**16] * 17) == 1009


def test_a_picture_that_unpacks_to_gigabytes_is_not_unpacked(server, state):
    """A PNG of a few kilobytes that says it is 60000 x 60000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
    payload = {"image": base64.b64encode(bomb).decode(), "instruction": "push", "state": state.tolist()}
    answer = server.post(payload)
    assert answer.status_code in (400, 413), answer.text


def test_an_image_beyond_the_limit_is_refused(server, state):
    buffer = io.BytesIO()
    Image.new("RGB", (1024, 512)).save(buffer, format="PNG")
    payload = {"image": base64.b64encode(buffer.getvalue()).decode(), "instruction": "push", "state": state.tolist()}
    answer = server.post(payload)
    assert answer.status_code == 413 and "1024 x 512" in answer.json()["error"]["message"]


@pytest.mark.parametrize("shape", [[2**40, 2**40, 3], [-1, 8, 3], [8, 8], [1] * 9, "88", [True, 8, 3], [8.0, 8, 3], []])
def test_an_array_that_is_not_what_it_says_is_refused(server, shape):
    image = {"__numpy__": base64.b64encode(bytes(100)).decode(), "dtype": "|u1", "shape": shape}
    assert server.post({"image": image, "instruction": "push", "state": [0, 0]}).status_code == 400


@pytest.mark.parametrize(
    "dtype", ["|O", "f4,f4", "|S100", "<U9", "<M8[s]", "|V8", "<c16", "nonsense", "", 3, None, "<f16"]
)
def test_an_array_of_anything_but_numbers_is_refused(server, dtype):
    message = msgpack.packb({"image": {b"__ndarray__": True, b"data": bytes(8), b"dtype": dtype, b"shape": [1]}})
    assert server.post(data=message, headers={"Content-Type": "application/msgpack"}).status_code == 400


# Time


def test_a_request_head_that_dribbles_is_cut_off(bundle):
    with running(bundle, header_seconds=0.3) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):  # cut off already
            slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        assert everything(slow) == b""


def test_a_connection_that_says_nothing_is_cut_off(bundle):
    with running(bundle, header_seconds=0.3) as server, socket.create_connection(("127.0.0.1", server.port)) as mute:
        mute.settimeout(PATIENCE)
        assert everything(mute) == b""


def in_time(bundle, attempt: Callable[[Running, float], bool]) -> bool:
    """Whether a client is served that a busy machine may make slower than a head may take: then it may take longer."""
    for seconds in (0.3, 3.0, 30.0):
        with running(bundle, header_seconds=seconds) as server, contextlib.suppress(requests.ConnectionError):
            if attempt(server, seconds):
                return True
    return False


def test_a_second_request_that_dribbles_is_cut_off_too(bundle):
    def dribble(server: Running, _: float) -> bool:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionError):  # cut off before the first one
                slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\n")
            return everything(slow).count(b"HTTP/1.1 200") == 1

    assert in_time(bundle, dribble)


def test_a_quick_client_is_not_cut_off_between_its_requests(bundle):
    def pause(server: Running, seconds: float) -> bool:
        with requests.Session() as robot:
            for _ in range(3):
                assert robot.get(f"{server.url}/healthz", timeout=PATIENCE).status_code == 200
                time.sleep(seconds + 0.1)  # longer than a head may take
            return True

    assert in_time(bundle, pause)


def test_a_body_that_dribbles_is_refused(bundle):
    with running(bundle, body_seconds=0.3) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(PATIENCE)
        head = f"POST /act HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        assert everything(slow).startswith(b"HTTP/1.1 408")


# Access


WITHOUT_TOKEN = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": TOKEN},
    {"Authorization": f"Digest {TOKEN}"},
    {"Authorization": "Basic !!!"},
    {"Authorization": "Basic " + base64.b64encode(b"user:").decode()},
    {"X-Forwarded-User": "admin"},
]


@pytest.mark.parametrize(
    "path", ["/act", "/reset", "/metadata", "/metrics", "/openapi.json", "/nothing", "//healthz", "/healthz/"]
)
def test_nothing_but_probes_is_told_without_the_token(server, path):
    for header in WITHOUT_TOKEN:
        for method in ("GET", "POST"):
            answer = requests.request(
                method, server.url + path, headers=header, timeout=PATIENCE, allow_redirects=False
            )
            assert answer.status_code == 401 and answer.json()["error"]["reason"] == "unauthorized", header


@pytest.mark.parametrize("path", ["/", "/vla-eval", "/nothing"])
def test_no_websocket_opens_without_the_token(server, path):
    with pytest.raises(InvalidStatus) as error, connect(server.ws_url + path):
        pass
    assert error.value.response.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "Api-Key", "bearer", "API-KEY"])
def test_the_token_is_taken_in_each_clients_words(server, scheme):
    answer = requests.get(f"{server.url}/metadata", headers={"Authorization": f"{scheme} {TOKEN}"}, timeout=PATIENCE)
    assert answer.status_code == 200


def test_a_client_that_only_takes_a_url_puts_the_token_there(server):
    with connect(f"ws://robot:{TOKEN}@127.0.0.1:{server.port}") as connection:
        assert unpack(connection.recv())["server"] == "lapa"


def test_the_token_appears_in_no_log(server, caplog, frame, state):
    caplog.set_level("DEBUG")
    server.post({})
    requests.get(f"{server.url}/act?token={TOKEN}x", timeout=PATIENCE)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert any("unauthorized" in message for message in ours) and not any(TOKEN in message for message in ours)


def test_there_are_no_more_sessions_than_allowed(bundle):
    with running(bundle, max_sessions=2) as server:
        first, second = session(server), session(server)
        with pytest.raises(InvalidStatus) as error:
            session(server)
        assert error.value.response.status_code == 503
        first.close()
        deadline = time.monotonic() + PATIENCE
        while len(server.sessions) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        session(server).close()
        second.close()


# Nonsense


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"POST /act HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /act HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /act HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_what_is_no_http_is_closed(socket_of, data):
    socket_of.sendall(data)
    with contextlib.suppress(OSError):  # closed already
        socket_of.shutdown(socket.SHUT_WR)
    received = everything(socket_of)
    assert b" 200 " not in received and b" 101 " not in received


@pytest.mark.parametrize(
    "frame_", [b"\xff\xff", b"\x82\x05hello", b"\x83\x80\x00\x00\x00\x00", b"\xf2\x80\x00\x00\x00\x00"]
)
def test_a_frame_against_the_protocol_ends_its_connection(server, socket_of, frame_):
    key = base64.b64encode(bytes(16)).decode()
    socket_of.sendall(
        f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert b" 101 " in socket_of.recv(65536)
    socket_of.sendall(frame_)
    everything(socket_of)


def test_an_error_tells_nothing_of_the_server(server, policy, monkeypatch, frame, state):
    def fails(*_):
        raise RuntimeError(f"cannot read {__file__}")

    monkeypatch.setattr(policy, "propose", fails)
    answer = server.post({"image": frame.tolist(), "instruction": "push", "state": state.tolist()})
    assert answer.status_code == 500 and __file__ not in answer.text and "Traceback" not in answer.text
    assert json.loads(answer.text)["error"]["request_id"] in answer.text


def test_a_client_that_vanishes_in_the_middle_leaves_nothing_behind(server, policy, frame, state):
    connection = session(server)
    connection.send(pack({"image": frame, "prompt": "push", "state": state}))
    connection.socket.close()  # no goodbye
    deadline = time.monotonic() + PATIENCE
    while (len(server.sessions) or server.service.running) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not len(server.sessions) and not server.service.running
