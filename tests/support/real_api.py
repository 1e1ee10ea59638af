"""A real kube-apiserver on a real etcd, for tests: what it validates, refuses and watches is Kubernetes' own word.

Found in this order: the kubeconfig that LAPA_TEST_KUBECONFIG names (a kind cluster, for example); `kube-apiserver` and
`etcd` in KUBEBUILDER_ASSETS, on the PATH, beside the Python that runs, or where `tests/cluster/build_kubernetes.sh`
leaves what it builds.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 600
ISSUER = "https://kubernetes.default.svc"


class RealApi:
    """A kube-apiserver with its etcd; the API server may be stopped and started again, as in an upgrade."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "sa.key"
        self._etcd_port, self._peer_port, self._port = (free_port() for _ in range(3))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        subprocess.run(["openssl", "genrsa", "-out", str(self.key), "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(
            "admin-token,admin,u1,system:masters\nstranger-token,stranger,u2,strangers\n"
        )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def kubeconfigs(self) -> dict[str, Path]:
        return {user: write_kubeconfig(self.folder, user, self.url) for user in ("admin", "stranger")}

    def start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._start(
            program("etcd"), "--data-dir", str(self.folder / "etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync",
        )  # fmt: skip

    def start(self) -> None:
        """The API server; returns when it is ready."""
        self._start(
            program("kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1", f"--secure-port={self._port}", f"--cert-dir={self.folder / 'certs'}",
            f"--service-account-issuer={ISSUER}", f"--service-account-key-file={self.key}",
            f"--service-account-signing-key-file={self.key}", f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount",
        )  # fmt: skip
        wait_until_ready(self.url, self.folder / "kube-apiserver.log")

    def stop(self, name: str = "kube-apiserver") -> None:
        """Ends the server as a crash does: streams break off, nobody is told."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop_all(self) -> None:
        for process in reversed(self._running.values()):
            process.kill()  # asked politely, it waits for streams that nobody reads
        for process in self._running.values():
            process.wait()

    def _start(self, command: str, *arguments: str) -> None:
        name = Path(command).name
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen([command, *arguments], stdout=log, stderr=subprocess.STDOUT)


@contextmanager
def restartable_real_api(folder: Path) -> Iterator[RealApi]:
    """A server of this test's own, never a user's cluster."""
    api = RealApi(folder)
    try:
        api.start_etcd()
        api.start()
        yield api
    finally:
        api.stop_all()


@contextmanager
def running_real_api(folder: Path) -> Iterator[dict[str, Path]]:
    """Kubeconfigs by user: `admin` may do everything, `stranger` nothing until a role says so."""
    if named := os.environ.get("LAPA_TEST_KUBECONFIG"):
        yield {"admin": Path(named)}
        return
    with restartable_real_api(folder) as api:
        yield api.kubeconfigs


def program(name: str, *, made_by: str = "build_kubernetes.sh", kept_in: str = "kubernetes") -> str:
    """Path of a program. Skips the test without it; in CI, which sets CI, fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapa" / kept_in
    folders = [os.environ.get("KUBEBUILDER_ASSETS", ""), *os.environ["PATH"].split(os.pathsep)]
    found = shutil.which(name, path=os.pathsep.join([*folders, str(Path(sys.executable).parent), str(cache)]))
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"no {name}: put it on the PATH or into KUBEBUILDER_ASSETS, or run tests/cluster/{made_by}")
    return str(found)


def write_kubeconfig(folder: Path, user: str, server: str) -> Path:
    """For a user of the server at that URL, whose certificates are in the folder."""
    cluster = {"server": server, "certificate-authority": str(folder / "certs" / "apiserver.crt")}
    path = folder / f"kubeconfig-{user}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": "team"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": f"{user}-token"}}],
    }
    path.write_text(json.dumps(config))
    return path


def wait_until_ready(server: str, log: Path) -> None:
    """Raises TimeoutError with the end of its log."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # its certificate is of a minute ago
    request = urllib.request.Request(f"{server}/readyz", headers={"Authorization": "Bearer admin-token"})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError(f"kube-apiserver is not ready after {START_SECONDS} s:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
