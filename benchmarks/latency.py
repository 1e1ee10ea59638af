"""Measure how long robots wait for actions, for one robot to many.

    python benchmarks/latency.py BUNDLE [--clients 1,2,4,8,16,32] [--requests 50] [--set max_batch=16] [--json FILE]
    python benchmarks/latency.py --url ws://robot-server:8000

BUNDLE is served by this script on this machine, in a process of its own; clients are threads here, so on few cores they
take time from the server. With --url a server that runs is measured; its token comes from LAPA_SERVER_TOKEN.
"""

import argparse
import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lapa.client import PolicyClient
from lapa.client.latency import Latency, measure_latency
from lapa.config.load import parse_override
from lapa.config.serving import TOKEN_VARIABLE, ServingConfig

START_SECONDS = 600


@contextmanager
def served(bundle: str, settings: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Address and token of a server of its own."""
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = ServingConfig.model_validate(
        {"bundle": bundle, "port": port, **dict(parse_override(item) for item in settings)}
    )
    command = [sys.executable, "-m", "lapa", "serve", "-", config.model_dump_json()]
    process = subprocess.Popen(command, env={**os.environ, TOKEN_VARIABLE: token}, cwd=Path(__file__).parents[1])
    try:
        _wait_until_ready(port, process)
        yield f"ws://127.0.0.1:{port}", token
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("the server did not become ready; its words are above")


def measure(url: str, token: str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole table, as JSON holds it."""
    rows = []
    sys.stderr.write("clients     p50     p90     p99  longest  answers/s  batch  refused   (ms)\n")
    for clients in (int(number) for number in arguments.clients.split(",")):
        row = measure_latency(
            url, token=token, clients=clients, requests=arguments.requests, image_side=arguments.image
        )
        sys.stderr.write(_line(row))
        rows.append(asdict(row))
    with PolicyClient(url, token=token) as client:
        policy = client.metadata
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    return {"policy": policy, "machine": machine, "image_side": arguments.image, "latency": rows}


def _line(row: Latency) -> str:
    return (
        f"{row.clients:7d} {row.p50_ms:7.1f} {row.p90_ms:7.1f} {row.p99_ms:7.1f} {row.longest_ms:8.1f} "
        f"{row.answers_per_second:10.1f} {row.mean_batch:6.1f} {row.refused:8d}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", help="policy bundle to serve and measure")
    parser.add_argument("--url", help="server to measure instead")
    parser.add_argument("--clients", default="1,2,4,8,16,32", help="numbers of clients, with commas")
    parser.add_argument("--requests", type=int, default=50, help="observations of each client")
    parser.add_argument("--image", type=int, default=224, help="side of the pictures that are sent")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the server")
    parser.add_argument("--json", type=Path, help="where the numbers go; stdout by default")
    arguments = parser.parse_args()
    if bool(arguments.bundle) == bool(arguments.url):
        parser.error("name a bundle or --url, one of them")
    if arguments.url:
        result = measure(arguments.url, os.environ.get(TOKEN_VARIABLE), arguments)
    else:
        with served(arguments.bundle, arguments.set) as (url, token):
            result = measure(url, token, arguments)
    text = json.dumps(result, indent=2) + "\n"
    if arguments.json:
        arguments.json.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
