"""A pod's container as processes of this machine: its environment, its volumes, its end, its log.

There is no image: the container finds the programs of this Python. Paths of its volumes and names of Services are
replaced by what stands for them here, since processes share this machine's disk and network.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import psutil

from lapa_k8s.base import Manifest

COOKIE = "STAND_IN_CONTAINER"
"""Variable by which a container's processes are known: torchrun gives each rank a process group of its own."""
MESSAGE_BYTES, MESSAGE_LINES = 2048, 80
"""How much of its log a failed container's message keeps."""


class ConfigError(Exception):
    """The container cannot be set up: what a kubelet calls CreateContainerConfigError."""


@dataclass(frozen=True)
class ContainerEnd:
    code: int
    started: str
    finished: str
    message: str


class PodProcess:
    """One life of a pod's container after the other; volumes outlive them."""

    def __init__(self, pod: Manifest, folder: Path) -> None:
        self.pod, self._folder = pod, folder
        self.container = pod["spec"]["containers"][0]
        self.lives = 0
        self.started = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self, data_of: Callable[[str, str], Mapping[str, str] | None], address_of: Callable[[str], str]) -> None:
        """`data_of(kind, name)` is a Secret's or ConfigMap's data; `address_of` replaces Services' names in a text.
        Raises ConfigError."""
        volumes = {item["name"]: self._volume(item, data_of) for item in self.pod["spec"].get("volumes") or []}
        mounts = {item["mountPath"]: volumes[item["name"]] for item in self.container.get("volumeMounts") or []}

        def here(text: str) -> str:
            return _with_paths(address_of(text), mounts)

        environment = {name: here(value) for name, value in self._environment(data_of).items()}
        command = [here(word) for word in (*self.container["command"], *(self.container.get("args") or []))]
        home = Path(environment.get("HOME", self._folder))
        self.lives += 1
        self.started = now()
        log = self.log_file(self.lives).open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            command,
            env={**_image_environment(), **environment, **self._network(environment), COOKIE: self._cookie},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=home,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=_stamp_lines, args=(self._process.stdout, log), daemon=True)
        self._reader.start()

    def poll(self) -> ContainerEnd | None:
        """How the present life ended; None while it goes on."""
        assert self._process is not None and self._reader is not None
        code = self._process.poll()
        if code is None:
            return None
        self.kill()  # whoever is left when the first process of a container ends
        self._reader.join(timeout=300)
        code = 128 - code if code < 0 else code
        return ContainerEnd(code, self.started, now(), self._last_words() if code else "")

    def terminate(self) -> None:
        """What a kubelet does first: SIGTERM to the container's first process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """All of its processes at once, as when a container's first process is killed."""
        while found := [process for process in psutil.process_iter() if _cookie_of(process) == self._cookie]:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)  # psutil would wait better, and take the exit code away from Popen
        if self._process is not None:
            self._process.wait()

    def remove(self) -> None:
        """The pod is gone, and its volumes with it; its logs stay."""
        self.kill()
        shutil.rmtree(self._folder / "v", ignore_errors=True)

    def log_file(self, life: int) -> Path:
        return self._folder / f"{life}.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _cookie(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def _volume(self, volume: Manifest, data_of: Callable[[str, str], Mapping[str, str] | None]) -> Path:
        folder = self._folder / "v" / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if (source := volume.get("configMap")) is not None:
            data = data_of("ConfigMap", source["name"])
            if data is None:
                raise ConfigError(f'configmap "{source["name"]}" not found')
            for name, text in data.items():
                (folder / name).write_text(text, encoding="utf-8")
        elif "emptyDir" not in volume:
            raise ConfigError(f"volume {volume['name']} is of a kind that no process has")
        return folder

    def _environment(self, data_of: Callable[[str, str], Mapping[str, str] | None]) -> dict[str, str]:
        found = {}
        for item in self.container.get("env") or []:
            if "valueFrom" not in item:
                found[item["name"]] = item.get("value", "")
                continue
            source = item["valueFrom"]["secretKeyRef"]
            data = data_of("Secret", source["name"])
            if data is not None and source["key"] in data:
                found[item["name"]] = data[source["key"]]
            elif not source.get("optional"):
                missing = f"couldn't find key {source['key']} in Secret {source['name']}"
                raise ConfigError(f'secret "{source["name"]}" not found' if data is None else missing)
        return found

    def _network(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Every address is this machine's here: c10d cannot tell by it which pod is worker 0, as it can in a cluster,
        and a machine's own name need not resolve, as a pod's does."""
        if "PET_RDZV_CONF" not in environment:
            return {}
        declared = {item["name"]: item.get("value", "") for item in self.container["env"]}
        is_host = declared["PET_RDZV_ENDPOINT"].startswith(f"{self.pod['metadata']['name']}:")
        return {
            "PET_RDZV_CONF": f"{environment['PET_RDZV_CONF']},is_host={str(is_host).lower()}",
            "PET_LOCAL_ADDR": "127.0.0.1",
        }

    def _last_words(self) -> str:
        if self.container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        lines = [line.partition(" ")[2] for line in self.log_file(self.lives).read_text(encoding="utf-8").splitlines()]
        return "\n".join(lines[-MESSAGE_LINES:]).encode()[-MESSAGE_BYTES:].decode(errors="ignore")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _image_environment() -> dict[str, str]:
    """What the image would have, for the CPU: its programs, and no settings of whoever runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}


def _with_paths(text: str, mounts: Mapping[str, Path]) -> str:
    """A path into a volume as the path it has here."""
    for mounted in sorted(mounts, key=len, reverse=True):
        if re.match(rf"{re.escape(mounted)}(/|$)", text):
            return f"{mounts[mounted]}{text[len(mounted) :]}"
    return text


def _stamp_lines(stream: IO[bytes], log: IO[str]) -> None:
    """Each line with the time in front, as a container runtime keeps it."""
    with log:
        for line in stream:
            moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
            log.write(f"{moment} {line.decode(errors='replace').rstrip()}\n")
            log.flush()


def _cookie_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(COOKIE) if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None
