"""The only caller of the Kubernetes API: plain objects in, plain objects or errors of ours out.

Requests are sent as they are, without the package's generated models: those check arguments by the schema of one
Kubernetes version, while the server at the other end is the one that knows.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from lapa_k8s.base import Manifest
from lapa_k8s.errors import ClientMissing, ClusterError, ClusterUnreachable, NotFound
from lapa_k8s.kinds import POD, Kind
from lapa_k8s.kubeconfig import kubeconfig_files
from lapa_k8s.refusals import Asked, refusal, unreachable

CONNECT_SECONDS = 5
READ_SECONDS = 30
STREAM_SECONDS = 300
"""A stream that says nothing for this long is opened again."""
PATIENCE = (0.5, 1, 2, 4, 8)
"""Seconds before each further try of a request that was throttled or met a broken server."""
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
BUSY_CODES = (429, 500, 502, 503, 504)


class StreamExpired(ClusterError):
    """The server forgot the version that a watch wants to go on from (410): list again."""


class Cluster:
    """One API server, as one user."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.host = str(api.configuration.host)

    @classmethod
    def connect(cls, context: str | None = None) -> "Cluster":
        """By the kubeconfig, else as the pod this runs in. Raises ClusterUnreachable; nothing is sent yet."""
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise ClientMissing("talking to a cluster needs the package kubernetes: install lapa[cluster]") from error
        configuration = client.Configuration()
        load_kubeconfig: Any = config.load_kube_config
        load_pod: Any = config.load_incluster_config
        try:
            if files := kubeconfig_files():
                # Named, since the package reads KUBECONFIG once, when it is imported.
                named = os.pathsep.join(str(file) for file in files)
                load_kubeconfig(config_file=named, context=context, client_configuration=configuration)
            else:
                load_pod(client_configuration=configuration)
        except (config.ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            raise ClusterUnreachable(_no_way(context, error)) from error
        configuration.retries = False  # ours, which know what may be sent twice
        return cls(client.ApiClient(configuration))

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self._json("GET", kind.path(namespace, name))

    def find(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """The object, or None where there is none."""
        try:
            return self.get(kind, namespace, name)
        except NotFound:
            return None

    def select(self, kind: Kind, namespace: str, *, labels: str = "") -> list[Manifest]:
        """The objects of a kind, those with the labels."""
        found = self._json("GET", kind.path(namespace), query=_query(labelSelector=labels))
        # Items of a list carry no kind of their own.
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in found.get("items") or []]

    def create(self, kind: Kind, namespace: str, body: Manifest, *, is_dry_run: bool = False) -> Manifest:
        query = _query(fieldManager="lapactl", dryRun="All" if is_dry_run else "")
        return self._json("POST", kind.path(namespace), query=query, body=body)

    def patch(self, kind: Kind, namespace: str, name: str, change: Manifest, *, part: str = "") -> Manifest:
        """Merge a change into an object, or into a part of it such as `status`."""
        path = kind.path(namespace, name, part)
        query = _query(fieldManager="lapactl")
        return self._json("PATCH", path, query=query, body=change, content_type="application/merge-patch+json")

    def delete(
        self, kind: Kind, namespace: str, name: str, *, version: str | None = None, uid: str | None = None
    ) -> None:
        """Its dependents go after it. An object that is gone is no error.

        With the version or uid that the caller read, Overtaken where somebody changed the object since then, or put
        another in its place.
        """
        expected = {"resourceVersion": version, "uid": uid}
        preconditions = {field: value for field, value in expected.items() if value}
        body = {"preconditions": preconditions} if preconditions else None
        try:
            self._json("DELETE", kind.path(namespace, name), query={"propagationPolicy": "Background"}, body=body)
        except NotFound:
            return

    def get_path(self, path: str) -> Manifest:
        """Discovery, and endpoints that hold no objects."""
        return self._json("GET", path)

    def post_path(self, path: str, body: Manifest) -> Manifest:
        """Questions that are asked by POST and store nothing: access reviews."""
        return self._json("POST", path, body=body)

    def is_there(self, kind: Kind, namespace: str, name: str) -> bool:
        """Whether an object exists, without its content: a Secret's values stay where they are."""
        try:
            self._json("GET", kind.path(namespace, name), accept=METADATA_ONLY)
            return True
        except NotFound:
            return False

    def watch(
        self, kind: Kind, namespace: str, name: str, *, version: str, seconds: int
    ) -> Iterator[tuple[str, Manifest]]:
        """An object's changes since a version, as (ADDED, MODIFIED or DELETED, object), for at most some seconds;
        without a version from now on, with the object as it is for a start.

        Raises StreamExpired where the version is too old.
        """
        query = _query(
            watch="true", fieldSelector=f"metadata.name={name}", resourceVersion=version, timeoutSeconds=str(seconds)
        )
        for line in self._lines(kind.path(namespace), query):
            event = json.loads(line)
            if event["type"] == "ERROR":
                code = int((event.get("object") or {}).get("code") or 500)
                if code == 410:
                    raise StreamExpired(f"the server no longer has version {version}")
                raise refusal(Asked("GET", kind.path(namespace), self.host), code, json.dumps(event["object"]))
            if event["type"] != "BOOKMARK":
                yield event["type"], event["object"]

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        is_following: bool = False,
        is_previous: bool = False,
        since: str | None = None,
        since_seconds: int | None = None,
        tail: int | None = None,
    ) -> Iterator[str]:
        """A container's lines, each with its timestamp in front, until the stream ends."""
        query = _query(
            container=container,
            timestamps="true",
            follow="true" if is_following else "",
            previous="true" if is_previous else "",
            sinceTime=since or "",
            sinceSeconds=str(since_seconds or ""),
            tailLines="" if tail is None else str(tail),
        )
        yield from self._lines(POD.path(namespace, pod, "log"), query)

    def execute(self, namespace: str, pod: str, *, container: str, command: list[str]) -> Iterator[str]:
        """Run a command in a container; yields what it prints. Raises ClusterError where it fails."""
        from kubernetes import client, stream
        from kubernetes.client.exceptions import ApiException

        # This package does the websocket protocol for one generated method only.
        # `stream` replaces the request method of the client it is given: hand it one of its own.
        api = client.CoreV1Api(client.ApiClient(self._api.configuration))
        try:
            session = stream.stream(
                api.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=command,
                stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False,
            )  # fmt: skip
        except ApiException as error:
            raise self._no_session(Asked("GET", POD.path(namespace, pod, "exec"), self.host), error) from error
        while session.is_open():
            session.update(timeout=1)
            for read, has in ((session.read_stdout, session.peek_stdout), (session.read_stderr, session.peek_stderr)):
                if has():
                    yield read()
        if session.returncode:
            raise ClusterError(f"`{' '.join(command)}` in pod '{pod}' ended with exit code {session.returncode}")

    def _no_session(self, asked: Asked, error: Exception) -> ClusterError:
        """The package hides the server's answer behind an error without a code."""
        answer = error.__context__
        if code := getattr(answer, "status_code", 0):
            body = getattr(answer, "resp_body", None) or b""
            return refusal(asked, int(code), body.decode(errors="replace"))
        return unreachable(self.host, answer or error)

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        asked = Asked(method, path, self.host)
        for wait in (*PATIENCE, None):
            with self._open(asked, query, body, content_type, accept=accept, timeout=READ_SECONDS) as response:
                code, text = response.status, response.data.decode(errors="replace")
                patience = response.headers.get("Retry-After", "")
            if code < 300:
                return _object(self.host, text)
            # A throttled request was not looked at; of one that failed in the server only reading is safe to repeat.
            if wait is None or not (code == 429 or (method == "GET" and code in BUSY_CODES)):
                raise refusal(asked, code, text)
            time.sleep(min(float(patience), 30) if patience.isdigit() else wait)
        raise AssertionError("the last try returns or raises")

    def _lines(self, path: str, query: Mapping[str, str]) -> Iterator[str]:
        asked = Asked("GET", path, self.host)
        with self._open(asked, query, None, "application/json", timeout=STREAM_SECONDS + READ_SECONDS) as response:
            if response.status >= 300:
                code, text = response.status, response.data.decode(errors="replace")
                raise StreamExpired(text) if code == 410 else refusal(asked, code, text)
            yield from _split_lines(response.stream(amt=None, decode_content=True))

    @contextmanager
    def _open(
        self,
        asked: Asked,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str,
        *,
        timeout: int,
        accept: str = "application/json",
    ) -> Iterator[Any]:
        """One HTTP request; yields the answer with its body unread. Raises ClusterUnreachable."""
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": accept, "User-Agent": "lapactl"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            method, url, sent_headers, sent_body, _ = self._api.param_serialize(
                asked.method, asked.path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response = self._api.call_api(
                method, url, header_params=sent_headers, body=sent_body, _request_timeout=(CONNECT_SECONDS, timeout)
            ).response
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise unreachable(self.host, getattr(error, "reason", None) or error) from error
        try:
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self.host, error) from error
        finally:
            response.close()


def _object(host: str, text: str) -> Manifest:
    """What every answer of the API is. Raises ClusterUnreachable for a proxy's or a login page."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    said = " ".join(text.split())[:80]
    raise ClusterUnreachable(
        f"{host} answers, but not as Kubernetes does ('{said}'): a proxy or a login page is in between. Check the "
        "server's address in the kubeconfig; `kubectl cluster-info` tries it out"
    )


def _no_way(context: str | None, error: Exception) -> str:
    files = kubeconfig_files()
    if not files:
        where = os.environ.get("KUBECONFIG") or "~/.kube/config"
        return f"there is no kubeconfig at {where}. Ask the platform team for one and set KUBECONFIG to its path"
    if context is not None and "context" in str(error).lower():
        return (
            f"the kubeconfig has no context '{context}'. `kubectl config get-contexts` lists them; "
            "correct context in the cluster profile"
        )
    what = str(error).split("\n")[0]
    return f"the kubeconfig {files[0]} does not lead to a cluster: {what}. `kubectl cluster-info` tries it out"


def _split_lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Whole lines, whatever pieces they arrive in; a last one without its end is yielded too."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _query(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
