"""This machine as a place where policies are deployed: a process for each release, and a front with a stable address.

STATE/NAME/record.json                   what ran and runs; the front reads here which server is active
STATE/NAME/front.json .log .lock         the front
STATE/NAME/servers/RELEASE.json .log     one server each: its process, its port, who answers for it
STATE/NAME/token                         what robots must show, readable by its owner alone
"""

import json
import os
import re
import shlex
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field

from lapa.config.serving import ServingConfig
from lapa.process import own_program
from lapa_k8s.base import Spec
from lapa_k8s.deployment import DeploymentName, Pinned, release_name
from lapa_k8s.deployment_record import Record, Release, parse_record
from lapa_k8s.errors import Overtaken, RolloutFailed
from lapa_k8s.names import content_hash
from lapa_k8s.rollout import Health, Held, Started, new_claim, now
from lapactl import deploy_front
from lapactl.deploy_front import RECORD_FILE, SERVERS
from lapactl.deploy_processes import Detached, locked, write_whole
from lapactl.failures import explain_failure

LOOPBACK = "127.0.0.1"
READY_SECONDS = 5.0
"""For one question whether a server is ready."""
FRONT_SECONDS = 60.0
FRONT_POLL_SECONDS = 0.02
_LISTENING = re.compile(r"event=listening host=\S+ port=(\d+)")


class LocalSpec(Spec):
    """What a server on this machine is told, and where robots reach it."""

    name: DeploymentName
    """Of the deployment, and so of its folder."""
    host: str = LOOPBACK
    port: int = 8000
    """Of the front: robots know it, and it stays."""
    has_token: bool = False
    settings: dict[str, Any] = Field({})
    """Of the server, as `lapactl serve --set` takes them."""
    keep_minutes: int = 30


class LocalTarget:
    """One state folder."""

    def __init__(self, state: Path, *, token: str = "", command: "Commander | None" = None) -> None:
        """A token is kept beside the deployment, for servers that are started when nobody is there to say it."""
        self.state, self._token, self._command = state, token, command or serve_command

    @property
    def place(self) -> dict[str, Any]:
        return {"target": "local", "namespace": None}

    def folder(self, name: str) -> Path:
        return self.state / name

    @property
    def options(self) -> str:
        """With which a command finds this place again."""
        elsewhere = self.state != state_folder(None)
        return " --target local" + (f" --state {shlex.quote(str(self.state))}" if elsewhere else "")

    def address(self, name: str) -> str:
        facts = self._front(name).facts()
        return f"ws://{facts.get('host', LOOPBACK)}:{facts.get('port', '?')}"

    def names(self) -> list[str]:
        found = self.state.iterdir() if self.state.is_dir() else []
        return sorted(path.name for path in found if path.is_dir())

    def deployed(self) -> list[str]:
        """Those that have a record, whatever is in it."""
        return [name for name in self.names() if (self.folder(name) / RECORD_FILE).is_file()]

    def read(self, name: str) -> Held | None:
        try:
            stored = json.loads((self.folder(name) / RECORD_FILE).read_text())
        except FileNotFoundError:
            return None
        return Held(parse_record(name, json.dumps(stored["record"])), str(stored["revision"]))

    def write(self, record: Record, token: str | None) -> None:
        folder = self.folder(record.name)
        with locked(folder / "lock"):
            held = self.read(record.name)
            if (held.token if held else None) != token:
                raise Overtaken(f"somebody else changed '{record.name}' at the same time; nothing was changed")
            stored = {"revision": int(token or 0) + 1, "record": record.model_dump(mode="json")}
            write_whole(folder / RECORD_FILE, json.dumps(stored, indent=1))

    def start(self, release: Release) -> Started:
        spec = LocalSpec.model_validate(release.spec)
        claim = new_claim()
        with locked(self.folder(spec.name) / "lock"):
            if self._token:
                self._keep_token(spec.name)
            try:
                self._ensure_front(spec)
            except RolloutFailed:
                self._forget_if_new(spec.name)
                raise
            server = self._server(spec.name, release.name)
            if server.is_alive():
                server.note(claim=claim)
                return Started(claim, is_new=False)
            token_file = self.folder(spec.name) / "token" if spec.has_token else None
            server.start(self._command(spec, release.pinned, token_file), claim=claim)
        return Started(claim, is_new=True)

    def claims(self, name: str) -> dict[str, str]:
        folder = self.folder(name) / SERVERS
        return {path.stem: str(json.loads(path.read_text()).get("claim", "")) for path in sorted(folder.glob("*.json"))}

    def health(self, release: Release) -> Health:
        spec = LocalSpec.model_validate(release.spec)
        server = self._server(spec.name, release.name)
        if not server.is_alive():
            why = explain_failure(server.said()) if server.facts() else "there is no process of it"
            return Health("missing", 0, 1, f"its server ended: {why}" if server.facts() else why)
        held = self.read(spec.name)
        if held and held.record.active.name == release.name and not self._front(spec.name).is_alive():
            return Health("missing", 0, 1, "the front, which passes robots on to it, ended")
        port = self._port(server)
        if port is None:
            return Health("starting", 0, 1, "its process starts")
        if not _is_ready(port):
            return Health("starting", 0, 1, "it loads the policy")
        return Health("ready", 1, 1, "ready")

    def discard(self, release: str, claim: str) -> bool:
        for name in self.names():
            if self.claims(name).get(release) == claim:
                self._server(name, release).stop()
                self._forget_if_new(name)
                return True
        return False

    def relieve(self, release: Release) -> None:
        """It ends: that closes its connections, and a rollback starts it again from the record."""
        spec = LocalSpec.model_validate(release.spec)
        self._server(spec.name, release.name).stop()

    def remove(self, name: str) -> None:
        self._front(name).stop()
        for release in self.claims(name):
            self._server(name, release).stop()
        shutil.rmtree(self.folder(name))

    def repinned(self, release: Release, pinned: Pinned) -> Release:
        return local_release(LocalSpec.model_validate(release.spec), pinned, release)

    def _keep_token(self, name: str) -> None:
        path = self.folder(name) / "token"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._token)

    def _forget_if_new(self, name: str) -> None:
        """Of a first deployment that failed nothing is left."""
        if self.read(name) is None and not self.claims(name):
            self.remove(name)

    def _ensure_front(self, spec: LocalSpec) -> None:
        """Raises RolloutFailed where the address is taken."""
        front = self._front(spec.name)
        known = front.facts()
        if front.is_alive():
            if known["host"] == spec.host and spec.port in (0, known["port"]):
                return
            front.stop()
        folder = self.folder(spec.name)
        command = [sys.executable, str(Path(deploy_front.__file__)), str(folder), spec.host, str(spec.port)]
        front.start(command, host=spec.host, port=spec.port)
        deadline = now() + timedelta(seconds=FRONT_SECONDS)
        while not (found := _LISTENING.search(front.said())):
            if not front.is_alive() or now() > deadline:
                said = (front.said().strip().splitlines() or ["it said nothing"])[-1]
                raise RolloutFailed(f"robots cannot be served at {spec.host}:{spec.port}: {said}. Take another --port")
            time.sleep(FRONT_POLL_SECONDS)
        front.note(port=int(found[1]))

    def _port(self, server: Detached) -> int | None:
        if known := server.facts().get("port"):
            return int(known)
        if not (found := _LISTENING.search(server.said())):
            return None
        server.note(port=int(found[1]))
        return int(found[1])

    def _front(self, name: str) -> Detached:
        return Detached(self.folder(name), "front")

    def _server(self, name: str, release: str) -> Detached:
        return Detached(self.folder(name) / SERVERS, release)


Commander = Callable[[LocalSpec, Pinned, Path | None], list[str]]
"""The program of a server, from what it is told, what it serves, and the file with its tokens."""


def serve_command(spec: LocalSpec, pinned: Pinned, token_file: Path | None) -> list[str]:
    """As `lapactl serve` runs it, on a free port that only the front needs to know."""
    config = ServingConfig.model_validate(
        {
            "bundle": pinned.url, "host": LOOPBACK, "port": 0, "name": pinned.model, "version": str(pinned.version),
            "expected_digest": pinned.digest, "has_open_metrics": True, **spec.settings,
            "token_file": str(token_file) if token_file else None,
        }
    )  # fmt: skip
    return own_program("lapa", "serve", "-", config.model_dump_json())


def local_release(spec: LocalSpec, pinned: Pinned, like: Release) -> Release:
    plain = spec.model_dump(mode="json")
    if "://" not in pinned.url:  # a rollback may come from another folder
        pinned = pinned.model_copy(update={"url": str(Path(pinned.url).resolve())})
    name = release_name(spec.name, pinned.version, content_hash([plain, pinned.model_dump(mode="json")]))
    return like.model_copy(update={"name": name, "pinned": pinned, "spec": plain})


def state_folder(chosen: str | None) -> Path:
    """`--state`, else beside what other programs of the user keep."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(chosen) if chosen else Path(base) / "lapa" / "deployments"


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/v2/health/ready", timeout=READY_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
