"""A FAKE of the Kubernetes API over real HTTP, for what a real server cannot be made to do on demand: refusals,
throttling, broken streams, pods with a history. It stores objects and checks nothing; that the product's objects are
valid, and that its calls mean what they should, is proved against schemas and a real server elsewhere.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

Answer = tuple[int, Any]
Rule = Callable[[str, str, dict[str, str]], Answer | None]
"""Method, path and query to a status code and a body; None leaves the request to the store."""


def status(code: int, reason: str, message: str = "", **details: Any) -> Answer:
    """The API's own way to refuse."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return code, {**body, "message": message, "details": details}


def queue_of(gpus: int) -> Rule:
    """Every LocalQueue is there, and the ClusterQueue behind it has so many GPUs."""
    quota = {"name": "nvidia.com/gpu", "nominalQuota": gpus}
    groups = [{"coveredResources": ["nvidia.com/gpu"], "flavors": [{"name": "gpus", "resources": [quota]}]}]

    def rule(method: str, path: str, _: dict[str, str]) -> Answer | None:
        if method == "GET" and "/localqueues/" in path and not path.endswith("/pendingworkloads"):
            return 200, {"spec": {"clusterQueue": "gpus"}}
        return (200, {"spec": {"resourceGroups": groups}}) if "/clusterqueues/" in path else None

    return rule


@dataclass
class FakeApi:
    """Objects by path, pods' logs by name, and what was asked."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    served: set[str] = field(
        default_factory=lambda: {"pytorchjobs", "trainjobs", "jobs", "pods", "configmaps", "events"}
    )
    rules: list[Rule] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    version: int = 100

    def put(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        """Store an object as the server would."""
        self.version += 1
        metadata = item.setdefault("metadata", {})
        metadata.setdefault("name", path.rsplit("/", 1)[1])
        metadata.setdefault("namespace", path.split("/namespaces/")[1].split("/")[0])
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
        metadata["resourceVersion"] = str(self.version)
        self.objects[path] = item
        return item

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        self.requests.append((method, path, query))
        self.bodies.append(body)
        for rule in self.rules:
            if (found := rule(method, path, query)) is not None:
                return found
        if "/namespaces/" not in path:
            return self._discovery(path)
        plural = path.split("/namespaces/")[1].split("/")[1]
        if plural not in self.served:
            return 404, "404 page not found"
        match method:
            case "GET" if path.endswith("/log"):
                return self._log(path, query)
            case "GET" if "watch" in query:
                return self._watch(path, query)
            case "GET" if path.endswith(f"/{plural}"):
                return self._list(path, query)
            case "POST":
                return self._create(path, query, body)
            case _ if path not in self.objects:
                name = path.rsplit("/", 1)[1]
                return status(404, "NotFound", f'{plural} "{name}" not found', name=name, kind=plural)
            case "PATCH":
                return 200, self.put(path, _merged(self.objects[path], body))
            case "DELETE":
                return self._delete(path, body)
            case _:
                return 200, self.objects[path]

    def _discovery(self, path: str) -> Answer:
        groups = {"/apis/kubeflow.org/v1": "pytorchjobs", "/apis/trainer.kubeflow.org/v1alpha1": "trainjobs"}
        if groups.get(path) in self.served:
            return 200, {"resources": [{"name": groups[path]}]}
        return 404, "404 page not found"

    def _list(self, path: str, query: dict[str, str]) -> Answer:
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if "=" in part)
        items = [
            item
            for key, item in list(self.objects.items())
            if key.rsplit("/", 1)[0] == path and wanted.items() <= (item["metadata"].get("labels") or {}).items()
        ]
        return 200, {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def _log(self, path: str, query: dict[str, str]) -> Answer:
        since = query.get("sinceTime", "").rstrip("Z")
        lines = self.logs.get(path.split("/")[-2], [])
        return 200, "".join(f"{line}\n" for line in lines if line[: len(since)] >= since)

    def _watch(self, path: str, query: dict[str, str]) -> Answer:
        """One change, or none in the time given; a real server goes on after the first.

        Without a version, a real one begins with the object as it is.
        """
        target = f"{path}/{query['fieldSelector'].removeprefix('metadata.name=')}"
        deadline = time.monotonic() + int(query["timeoutSeconds"])
        since = int(query.get("resourceVersion") or self.version)
        while time.monotonic() < deadline:
            item = self.objects.get(target)
            if item is None or int(item["metadata"]["resourceVersion"]) > since:
                change = {"type": "DELETED", "object": {}} if item is None else {"type": "MODIFIED", "object": item}
                return 200, json.dumps(change) + "\n"
            time.sleep(0.02)
        return 200, ""

    def _create(self, path: str, query: dict[str, str], body: Any) -> Answer:
        target = f"{path}/{body['metadata']['name']}"
        if target in self.objects:
            return status(409, "AlreadyExists", f'"{body["metadata"]["name"]}" already exists')
        if query.get("dryRun"):
            return 201, body
        return 201, self.put(target, body)

    def _delete(self, path: str, body: Any) -> Answer:
        expected = (body or {}).get("preconditions") or {}
        if not expected.items() <= self.objects[path]["metadata"].items():
            return status(409, "Conflict", "the precondition does not match")
        return 200, self.objects.pop(path)


def _merged(old: Any, change: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(change, dict):
        return change
    return {**old, **{key: _merged(old.get(key), value) for key, value in change.items()}}


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi

    def _serve(self) -> None:
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        code, answer = self.api.answer(self.command, url.path, query, body)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self._reply(code, text)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 (http.server's names)

    def _reply(self, code: int, text: str) -> None:
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def running_fake_api(folder: Path) -> Iterator[tuple[FakeApi, Path]]:
    """The fake and a kubeconfig that leads to it."""
    api = FakeApi()
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "fake",
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "team"}}],
                "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "fake", "user": {"token": "of-nobody"}}],
            }
        )
    )
    try:
        yield api, kubeconfig
    finally:
        server.shutdown()
        server.server_close()
