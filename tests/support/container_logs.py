"""What the API server asks a kubelet for when somebody wants logs: `GET /containerLogs/NAMESPACE/POD/CONTAINER`."""

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit


class Container(Protocol):
    """What a log may go on for."""

    @property
    def is_running(self) -> bool: ...


class LogKeeper(Protocol):
    """Who has the logs."""

    def log_of(self, pod: str, *, is_previous: bool = False) -> tuple[Path, Any] | None: ...


@contextmanager
def serving_logs(keeper: LogKeeper, folder: Path) -> Iterator[int]:
    """Serves with a certificate that nobody signed, which the API server takes from a kubelet; yields the port."""
    certificate, key = folder / "kubelet.crt", folder / "kubelet.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=process-node",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"keeper": keeper}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    keeper: LogKeeper

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, kind, _, pod, _ = url.path.split("/")
        assert kind == "containerLogs", self.path
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            found = self.keeper.log_of(pod, is_previous=asked.get("previous") == "true")
        except StopIteration:
            found = None
        if found is None:
            self.send_error(400, "the container has no such log")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        file, container = found
        for line in _lines(file, container, asked):
            self.wfile.write(line if asked.get("timestamps") == "true" else line.partition(b" ")[2])
            self.wfile.flush()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the test's own output is enough."""


def _lines(file: Path, container: Container, asked: dict[str, str]) -> Iterator[bytes]:
    """The lines that are there, and with `follow` those to come, until the container ends."""
    since = asked.get("sinceTime", "")
    if "sinceSeconds" in asked:
        since = (datetime.now(UTC) - timedelta(seconds=int(asked["sinceSeconds"]))).isoformat()
    with file.open("rb") as log:
        there = [line for line in log.readlines() if line.decode(errors="replace")[:19] >= since[:19]]
        yield from there[-int(asked["tailLines"]) :] if "tailLines" in asked else there
        while asked.get("follow") == "true":
            is_last = not container.is_running
            if line := log.readline():
                yield line
            elif is_last:
                return
            else:
                time.sleep(0.1)
