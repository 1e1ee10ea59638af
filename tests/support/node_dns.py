"""A STAND-IN for the cluster's DNS: dnsmasq answers for headless Services with the addresses of their ready pods, as
the API's Endpoints give them. `<pod>.<namespace>.svc.cluster.local` is all that an operator's pods ask for.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node_namespaces import Namespaces, child_of

from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError

DOMAIN = "cluster.local"
POLL_SECONDS = 0.5


@contextmanager
def running_dns(folder: Path, namespaces: Namespaces, cluster: Cluster, address: str) -> Iterator[None]:
    """Answers at an address of the node."""
    hosts = folder / "hosts"
    hosts.touch()
    folder.chmod(0o755)
    command = namespaces.command(
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
        f"--addn-hosts={hosts}", f"--local=/{DOMAIN}/", f"--listen-address={address}", "--bind-interfaces",
        "--pid-file=",
    )  # fmt: skip
    stop = threading.Event()
    with (folder / "dnsmasq.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    thread = threading.Thread(target=_keep_up, args=(cluster, hosts, server, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.kill()
        server.wait()


def _keep_up(cluster: Cluster, hosts: Path, server: "subprocess.Popen[bytes]", stop: threading.Event) -> None:
    while not stop.wait(POLL_SECONDS):
        try:
            lines = _names(cluster)
        except ClusterError:  # it is asked again
            continue
        if lines != hosts.read_text() and (pid := child_of(server.pid)) is not None:
            hosts.write_text(lines)
            os.kill(pid, signal.SIGHUP)  # to the server itself; what started it passes nothing on


def _names(cluster: Cluster) -> str:
    found = []
    for item in cluster.get_path("/api/v1/endpoints").get("items") or []:
        metadata = item["metadata"]
        for subset in item.get("subsets") or []:
            for address in subset.get("addresses") or []:
                found.append(f"{address['ip']} {metadata['name']}.{metadata['namespace']}.svc.{DOMAIN}\n")
    return "".join(sorted(found))
