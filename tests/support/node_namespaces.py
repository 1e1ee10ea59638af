"""Where a test's node lives: network, mounts and processes of its own, so that nothing of it outlives the test.

When the first process of the namespaces ends, the kernel ends all others, and with them go the mounts and the
network. That process dies with the one that made it, even where that one is killed.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HOST_ADDRESS, NODE_ADDRESS, PREFIX = "10.99.0.2", "10.99.0.1", 24
"""Two ends of a cable: this machine, where servers of the test listen, and the node."""
POD_NETWORK = "10.98.0.0/24"
HOST_DEVICE, NODE_DEVICE = "lapa-host", "lapa-node"
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "lapa-node"
END_SECONDS = 30


@dataclass(frozen=True)
class Namespaces:
    """What programs of the node are started in."""

    first: int
    """Process that holds them."""

    def command(self, *words: str) -> list[str]:
        """A command, as it is started in them."""
        return ["nsenter", f"--target={self.first}", "--net", "--mount", "--pid", "--", *words]

    def __call__(self, *words: str, stdin: "subprocess.Popen[bytes] | None" = None) -> str:
        """What a command says that ends."""
        source = stdin.stdout if stdin else subprocess.DEVNULL
        ended = subprocess.run(self.command(*words), stdin=source, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise AssertionError(f"{' '.join(words)}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout


@contextmanager
def new_namespaces() -> Iterator[Namespaces]:
    """With a network that this machine reaches, empty folders where node programs leave things, and a cgroup."""
    words = ["--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation=private"]
    command = ["setpriv", "--pdeathsig=KILL", "unshare", *words, "sleep", "infinity"]
    holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        namespaces = Namespaces(_first_process(holder))
        _connect(namespaces)
        for folder in ("/run", "/var/lib", "/var/log"):  # node programs have fixed paths below these
            namespaces("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        _remove_cgroups()
        _make_cgroups()
        yield namespaces
    finally:
        holder.kill()
        holder.wait(timeout=END_SECONDS)
        _remove_cgroups()


def child_of(pid: int) -> int | None:
    """The one child of a process, such as what `nsenter` started."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                return int(child)
    return None


def _first_process(holder: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and holder.poll() is None:
        child = child_of(holder.pid)
        # It mounts its /proc and then becomes the program; before that its namespaces are not ready.
        if child is not None and Path(f"/proc/{child}/comm").read_text().strip() == "sleep":
            return child
        time.sleep(0.05)
    raise AssertionError(f"no namespaces for the node: unshare ended with {holder.poll()}")


def _connect(namespaces: Namespaces) -> None:
    """A cable between this machine and the node, and the way to its pods."""
    subprocess.run(["ip", "link", "delete", HOST_DEVICE], capture_output=True, check=False)  # of a killed test
    cable = ["ip", "link", "add", HOST_DEVICE, "type", "veth", "peer", "name", NODE_DEVICE, "netns"]
    for words in (
        [*cable, str(namespaces.first)],
        ["ip", "address", "add", f"{HOST_ADDRESS}/{PREFIX}", "dev", HOST_DEVICE],
        ["ip", "link", "set", HOST_DEVICE, "up"],
    ):
        subprocess.run(words, check=True, capture_output=True)
    namespaces("ip", "link", "set", "lo", "up")
    namespaces("ip", "address", "add", f"{NODE_ADDRESS}/{PREFIX}", "dev", NODE_DEVICE)
    namespaces("ip", "link", "set", NODE_DEVICE, "up")
    namespaces("ip", "route", "add", "default", "via", HOST_ADDRESS)  # a kubelet wants a default route
    namespaces("sysctl", "-qw", "net.ipv4.ip_forward=1")
    subprocess.run(["ip", "route", "replace", POD_NETWORK, "via", NODE_ADDRESS], check=True, capture_output=True)


def _hierarchies() -> list[Path]:
    """Those of cgroups v1; also `unified`, where runc puts a container too if the machine has it beside them."""
    return [path for path in sorted(CGROUPS.iterdir()) if (path / "cgroup.procs").exists()]


def _make_cgroups() -> None:
    """The node's own, which may use the CPUs that this process may use."""
    for hierarchy in _hierarchies():
        (hierarchy / CGROUP).mkdir()
    cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
    own = CGROUPS / "cpuset" / CGROUP
    (own / "cpuset.cpus").write_text(cpus)
    (own / "cpuset.mems").write_text((CGROUPS / "cpuset" / "cpuset.mems").read_text())
    # A cgroup gets as much of a busy CPU as one process outside; this one holds several that work.
    (CGROUPS / "cpu" / CGROUP / "cpu.shares").write_text("6144")


def _remove_cgroups() -> None:
    """Once their processes are gone, which takes the kernel a moment."""
    deadline = time.monotonic() + END_SECONDS
    for root in [hierarchy / CGROUP for hierarchy in _hierarchies()]:
        for folder in [*(folder for folder, _, _ in os.walk(root, topdown=False))]:
            while True:
                try:
                    Path(folder).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
