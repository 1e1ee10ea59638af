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

START_SECONDS = 120


@contextmanager
def running_real_api(folder: Path) -> Iterator[dict[str, Path]]:
    """Kubeconfigs by user: `admin` may do everything, `stranger` nothing until a role says so."""
    if named := os.environ.get("LAPA_TEST_KUBECONFIG"):
        yield {"admin": Path(named)}
        return
    etcd_port, peer_port, api_port = (free_port() for _ in range(3))
    etcd_url, peer_url = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text("admin-token,admin,u1,system:masters\nstranger-token,stranger,u2,strangers\n")
    etcd = [
        program("etcd"), "--data-dir", str(folder / "etcd"), "--listen-client-urls", etcd_url,
        "--advertise-client-urls", etcd_url, "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"default={peer_url}", "--unsafe-no-fsync",
    ]  # fmt: skip
    api = [
        program("kube-apiserver"), f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1",
        f"--secure-port={api_port}", f"--cert-dir={folder / 'certs'}",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}", f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in (("etcd", etcd), ("api", api)):
            with (folder / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        server = f"https://127.0.0.1:{api_port}"
        wait_until_ready(server, folder / "api.log")
        yield {user: write_kubeconfig(folder, user, server) for user in ("admin", "stranger")}
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(timeout=30)


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
