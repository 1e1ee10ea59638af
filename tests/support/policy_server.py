"""A policy server of tests: the real one, in a thread of this process or in a process of its own."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from lapa.config.serving import TOKEN_VARIABLE, ServingConfig
from lapa.serving.access import Tokens
from lapa.serving.app import build_app
from lapa.serving.server import DrainingServer, uvicorn_config
from lapa.serving.service import PolicyService, Status
from lapa.serving.sessions import Sessions

TOKEN = "correct-horse-battery-staple"
REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 240.0
"""Seconds for what takes one: the machine may be busy."""
UNHURRIED = {"deadline_seconds": PATIENCE, "header_seconds": PATIENCE, "body_seconds": PATIENCE}
"""Settings of servers whose limits are not what a test is about."""


@dataclass(frozen=True)
class Running:
    """A server that is ready."""

    port: int
    service: PolicyService
    sessions: Sessions
    server: DrainingServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def post(self, payload: Any = None, path: str = "/act", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        if payload is not None:
            options["json"] = payload
        return requests.post(self.url + path, headers=headers, timeout=PATIENCE, **options)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE)

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(f"lapa_serving_{name}", labels) or 0.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come true within {PATIENCE:g} s")


@contextmanager
def running(
    bundle: Path, *, tokens: tuple[str, ...] = (TOKEN,), is_awaited: bool = True, **settings: Any
) -> Iterator[Running]:
    """A server in a thread, so that a test can look inside; `settings` are those of ServingConfig."""
    config = ServingConfig(bundle=str(bundle), port=0, **(UNHURRIED | settings))
    service = PolicyService(config)
    sessions = Sessions(service)
    app = build_app(service, sessions, Tokens(tokens))
    server = DrainingServer(uvicorn_config(app, config), service, sessions)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the server listening")
        port = server.servers[0].sockets[0].getsockname()[1]
        if is_awaited:
            wait_for(lambda: service.status is not Status.LOADING, "the model loaded")
            assert service.error is None, service.error
        yield Running(port, service, sessions, server)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def served_process(
    bundle: Path, log: Path, *, port: int | None = None, **settings: Any
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`lapactl serve` in a process of its own, ready; killed at the end if it still lives."""
    port = port or free_port()
    command = [sys.executable, "-c", "from lapactl.main import app; app()", "serve", str(bundle), "--port", str(port)]
    command += [f"--set={name}={value}" for name, value in (UNHURRIED | settings).items()]
    paths = os.pathsep.join(str(REPOSITORY / part) for part in (".", "cli", "k8s"))
    variables = {**os.environ, TOKEN_VARIABLE: TOKEN, "PYTHONPATH": paths}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
    try:
        wait_for(lambda: process.poll() is not None or is_ready(port), "the server's readiness")
        assert process.poll() is None, log.read_text()
        yield process, port
    finally:
        process.kill()
        process.wait()


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=PATIENCE) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
