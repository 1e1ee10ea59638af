"""A Kubernetes cluster of one node on this machine: real control plane, kubelet, containerd and runc, real pods.

Needs root, cgroups v1, `apt-get install --no-install-recommends containerd runc containernetworking-plugins
busybox-static conntrack dnsmasq-base iproute2 podman`, and what `tests/cluster/build_kubernetes.sh` builds. There is no
kube-proxy: Services have names (`node_dns.py`) and no addresses of their own. The API server is at an address that this
machine and the pods reach, and pods reach servers of this machine at `HOST_ADDRESS`.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from container_engine import Podman
from node_dns import DOMAIN, running_dns
from node_namespaces import CGROUP, CGROUPS, HOST_ADDRESS, NODE_ADDRESS, POD_NETWORK, Namespaces, new_namespaces
from real_api import program, wait_until_ready, write_kubeconfig

from lapa_k8s.client import Cluster

__all__ = ["HOST_ADDRESS", "Node", "missing_parts", "running_node"]

PAUSE_IMAGE = "localhost/lapa-test-pause:1"
CNI_PLUGINS = "/usr/lib/cni"
READY_SECONDS = 300
ETCD_URL, ETCD_PEER_URL = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
API_URL = f"https://{NODE_ADDRESS}:6443"
TOKENS = "admin-token,admin,u1,system:masters\nstranger-token,stranger,u2,strangers\n"
PACKAGES = {
    "containerd": "containerd", "runc": "runc", "ctr": "containerd", "busybox": "busybox-static", "ip": "iproute2",
    "conntrack": "conntrack", "dnsmasq": "dnsmasq-base", "podman": "podman",
}  # fmt: skip
"""Program to Debian package."""


@dataclass(frozen=True)
class Node:
    """A running cluster."""

    folder: Path
    kubeconfig: Path
    """Of an administrator."""
    cluster: Cluster
    namespaces: Namespaces
    podman: Podman

    def load(self, image: str) -> str:
        """Hand an image of podman's to the node; returns the name that pods call it by."""
        full = image if image.startswith("localhost/") else f"localhost/{image}"
        with subprocess.Popen(
            ["podman", "save", "--quiet", "--format=docker-archive", full],
            env=self.podman.environment, stdout=subprocess.PIPE,
        ) as saving:  # fmt: skip
            self.ctr("images", "import", "-", stdin=saving)
        return full

    def ctr(self, *words: str, stdin: "subprocess.Popen[bytes] | None" = None) -> str:
        socket = self.folder / "containerd.sock"
        return self.namespaces("ctr", "--address", str(socket), "--namespace=k8s.io", *words, stdin=stdin)


def missing_parts() -> str | None:
    """Why no node can run here; None when one can."""
    if os.geteuid() != 0:
        return "a node needs root"
    if not (CGROUPS / "cpuset" / "cgroup.procs").exists():
        return "the kubelet under test (1.20) needs cgroups v1, and this machine has v2 only"
    missing = {package for name, package in PACKAGES.items() if shutil.which(name) is None}
    if not Path(CNI_PLUGINS, "bridge").exists():
        missing.add("containernetworking-plugins")
    if missing:
        return f"not installed: apt-get install --no-install-recommends {' '.join(sorted(missing))}"
    return None


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    """From nothing to a node that is Ready; afterwards nothing of it is left, but for the files in `folder`."""
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
    programs = {name: program(name) for name in names}
    podman = Podman.in_folder(folder)
    _write_settings(folder)
    with new_namespaces() as namespaces, pytest.MonkeyPatch.context() as environment:
        kubeconfig = _start_control_plane(folder, namespaces, programs)
        environment.setenv("KUBECONFIG", str(kubeconfig))
        cluster = Cluster.connect()
        node = Node(folder, kubeconfig, cluster, namespaces, podman)
        _start(folder, namespaces, ["containerd", "--config", str(folder / "containerd.toml")])
        _make_pause_image(podman)
        _wait(folder, "containerd", lambda: _answers(node))
        node.load(PAUSE_IMAGE)
        with running_dns(folder, namespaces, cluster, NODE_ADDRESS):
            _start_kubelet(folder, namespaces, programs["kubelet"], kubeconfig)
            _wait(folder, "kubelet", lambda: _is_ready(cluster))
            yield node


def _start_control_plane(folder: Path, namespaces: Namespaces, programs: dict[str, str]) -> Path:
    """etcd, API server, controllers and scheduler; returns the administrator's kubeconfig."""
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(TOKENS)
    _start(folder, namespaces, [
        programs["etcd"], "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync",
        "--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL, "--listen-peer-urls", ETCD_PEER_URL,
        "--initial-advertise-peer-urls", ETCD_PEER_URL, "--initial-cluster", f"default={ETCD_PEER_URL}",
    ])  # fmt: skip
    _start(folder, namespaces, [
        programs["kube-apiserver"], f"--etcd-servers={ETCD_URL}", f"--bind-address={NODE_ADDRESS}",
        f"--advertise-address={NODE_ADDRESS}", "--secure-port=6443", f"--cert-dir={folder / 'certs'}",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}", f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC", "--service-cluster-ip-range=10.97.0.0/24", "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
    ])  # fmt: skip
    wait_until_ready(API_URL, folder / "kube-apiserver.log")
    kubeconfig = write_kubeconfig(folder, "admin", API_URL)
    _start(folder, namespaces, [
        programs["kube-controller-manager"], f"--kubeconfig={kubeconfig}", "--leader-elect=false",
        f"--service-account-private-key-file={key}", f"--root-ca-file={folder / 'certs' / 'apiserver.crt'}",
        "--bind-address=127.0.0.1",
    ])  # fmt: skip
    _start(folder, namespaces, [
        programs["kube-scheduler"], f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
    ])  # fmt: skip
    return kubeconfig


def _start_kubelet(folder: Path, namespaces: Namespaces, kubelet: str, kubeconfig: Path) -> None:
    _start(folder, namespaces, [
        kubelet, f"--kubeconfig={kubeconfig}", f"--config={folder / 'kubelet.yaml'}", "--container-runtime=remote",
        f"--container-runtime-endpoint=unix://{folder / 'containerd.sock'}", f"--root-dir={folder / 'kubelet'}",
        f"--cert-dir={folder / 'kubelet-certs'}", "--hostname-override=node1", f"--node-ip={NODE_ADDRESS}",
    ])  # fmt: skip


def _write_settings(folder: Path) -> None:
    """Of containerd, of the pods' network, and of the kubelet."""
    network = {
        "cniVersion": "0.4.0", "name": "lapa-pods",
        "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": POD_NETWORK}]], "routes": [{"dst": "0.0.0.0/0"}]}}],
    }  # fmt: skip
    (folder / "cni").mkdir()
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))
    (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder, pause=PAUSE_IMAGE, plugins=CNI_PLUGINS))
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "address": NODE_ADDRESS, "readOnlyPort": 0, "healthzPort": 0,
        "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{CGROUP}", "enforceNodeAllocatable": [], "failSwapOn": False,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # how full this machine's disk is is no concern of a test
        "clusterDomain": DOMAIN, "clusterDNS": [NODE_ADDRESS], "resolvConf": "",
    }  # fmt: skip
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))


CONTAINERD = """version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
"""
"""Root may lack CAP_SYS_RESOURCE, hence restrict_oom_score_adj."""


def _start(folder: Path, namespaces: Namespaces, command: list[str]) -> None:
    """Until the namespaces end."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        subprocess.Popen(namespaces.command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _make_pause_image(podman: Podman) -> None:
    """The process that holds a pod's network."""
    if podman("image", "exists", PAUSE_IMAGE, check=False).returncode == 0:
        return
    busybox = shutil.which("busybox")
    assert busybox is not None
    archive = podman.folder / "pause.tar"
    subprocess.run(["tar", "-cf", str(archive), "-C", str(Path(busybox).parent), "busybox"], check=True)
    podman("import", '--change=ENTRYPOINT ["/busybox", "sleep", "2147483"]', str(archive), PAUSE_IMAGE)
    archive.unlink()


def _answers(node: Node) -> bool:
    try:
        node.ctr("version")
        return True
    except AssertionError:
        return False


def _is_ready(cluster: Cluster) -> bool:
    found = cluster.get_path("/api/v1/nodes").get("items") or []
    conditions = [item for node in found for item in node["status"].get("conditions") or []]
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _wait(folder: Path, name: str, is_so: Callable[[], bool]) -> None:
    """For a program to do its part. Raises TimeoutError with the end of its log."""
    deadline = time.monotonic() + READY_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is not ready:\n{(folder / f'{name}.log').read_text()[-3000:]}")
        time.sleep(0.3)
