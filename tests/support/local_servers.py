"""A STAND-IN for the policy server of a local deployment: it starts in a moment, has a port, is ready when it is told
to be, and answers with the version that it serves. What the real one does is tested in `tests/serving`.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # as a program it must start in a moment
    from lapa_k8s.deployment import Pinned

SILENT, BROKEN = "silent", "broken"
"""Words in a bundle's URL: a server that is never ready, and one that ends with an error."""


def stand_in_command(spec: object, pinned: "Pinned", token_file: Path | None) -> list[str]:
    return [sys.executable, __file__, pinned.url, str(pinned.version)]


class Answers(BaseHTTPRequestHandler):
    """Keep-alive, as the real one."""

    protocol_version = "HTTP/1.1"
    url, version = "", ""

    def do_GET(self) -> None:
        self._answer(503 if SILENT in self.url else 200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(0.02)  # so that some requests are under way at any moment
        self._answer(200)

    def _answer(self, code: int) -> None:
        body = json.dumps({"version": int(self.version)}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    Answers.url, Answers.version = sys.argv[1:]
    if BROKEN in Answers.url:
        sys.stderr.write("PolicyError: the weights are damaged\n")
        sys.exit(6)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    sys.stderr.write(f"event=listening host=127.0.0.1 port={server.server_port}\n")
    sys.stderr.flush()
    server.serve_forever()
