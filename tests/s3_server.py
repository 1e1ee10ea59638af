"""A real S3 server (SeaweedFS) on this machine, for tests that read from and write to object stores."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import fsspec
import pytest

START_SECONDS = 600
GRPC_OFFSET = 10_000
"""Where SeaweedFS listens with gRPC, above each HTTP port."""


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str
    filer: str = ""
    """Where `weed filer.copy` puts many files at once, below `/buckets/NAME/`: much faster than S3."""

    def new_bucket(self, name: str) -> str:
        """`s3://…` of a new bucket."""
        fs = fsspec.filesystem("s3")
        fs.mkdir(name)
        return f"s3://{name}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server, with the AWS variables of this process and its children pointing at it."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def running_s3(folder: Path, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """The same, at an address of this machine."""
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("no SeaweedFS; install the dev extra")
    server = S3Server(endpoint="", access_key="test-key", secret_key="test-secret")
    command, endpoint, filer = _command(weed, folder, server, address)
    server = replace(server, endpoint=endpoint, filer=filer)
    with (folder / "log.txt").open("wb") as log, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("LAPA_CACHE_DIR", str(folder / "cache"))  # not the developer's own
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _wait_until_up(process, endpoint, folder / "log.txt")
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            yield server
        finally:
            process.kill()  # asked politely, it takes half a minute to flush what nobody needs
            process.wait()


def _command(weed: str, folder: Path, server: S3Server, address: str) -> tuple[list[str], str, str]:
    identity = {
        "name": "admin",
        "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = dict(zip(("s3", "master", "volume", "filer"), _free_ports(4, address), strict=True))
    command = [weed, "server", f"-dir={folder}", f"-ip={address}", f"-ip.bind={address}", "-filer", "-s3"]
    command += [f"-s3.port={ports['s3']}", f"-s3.config={config}", f"-master.port={ports['master']}"]
    command += [f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}"]
    # The catalogs listen on fixed ports, which a second server on this machine would not get.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=0"]
    return command, *(f"http://{address}:{ports[name]}" for name in ("s3", "filer"))


def _free_ports(count: int, address: str) -> list[int]:
    """Ports that are free together with their gRPC ports."""
    found: list[int] = []
    start = 12_000 + os.getpid() * 397 % 8_000  # far from those that a test process beside this one is about to take
    for port in range(start, start + 2_000):
        if _is_free(address, port) and _is_free(address, port + GRPC_OFFSET):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports for the S3 server")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _wait_until_up(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=30)
            return
        except urllib.error.HTTPError:  # it answers, if only with "access denied"
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")
