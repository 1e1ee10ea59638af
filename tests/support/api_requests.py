"""Plain requests to an API server, as whoever one likes: what is asked and what is answered, status codes included."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import client, config

Object = dict[str, Any]
FIELD_MANAGER = "helm"


class Answer(NamedTuple):
    code: int
    body: Object


class Resource(NamedTuple):
    """What discovery says about a resource; `name` is `pods/log` for a part of one."""

    group: str
    version: str
    name: str
    kind: str
    verbs: frozenset[str]
    is_namespaced: bool

    def path(self, namespace: str, object_name: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        plural, _, part = self.name.partition("/")
        place = ["namespaces", namespace] if self.is_namespaced and namespace else []
        return "/".join(item for item in (root, *place, plural, object_name, part) if item)


class Api:
    """An API server as the user of a kubeconfig, as the owner of a token, or as somebody that the user acts for."""

    def __init__(self, kubeconfig: Path, *, token: str = "", group: str = "") -> None:
        named: Any = config.new_client_from_config(str(kubeconfig))
        if token:
            known, named.configuration = named.configuration, client.Configuration()
            named.configuration.host, named.configuration.ssl_ca_cert = known.host, known.ssl_ca_cert
            named.configuration.api_key = {"authorization": token}
            named.configuration.api_key_prefix = {"authorization": "Bearer"}
            named = client.ApiClient(named.configuration)
        named.configuration.retries = False
        self._api: Any = named
        self._kubeconfig = kubeconfig
        self._who = {"Impersonate-User": "somebody", "Impersonate-Group": group} if group else {}

    def ask(self, method: str, path: str, body: Object | None = None, *, kind_of_body: str = "") -> Answer:
        code, text = self._send(method, path, body, kind_of_body)
        # Streams and logs are many objects, or none.
        return Answer(code, json.loads(text) if text.startswith(b"{") and b"\n{" not in text else {})

    def text(self, path: str) -> str:
        return self._send("GET", path, None, "")[1].decode()

    def _send(self, method: str, path: str, body: Object | None, kind_of_body: str) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", **self._who}
        if body is not None:
            headers["Content-Type"] = kind_of_body or "application/json"
        method, url, sent, data, _ = self._api.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = self._api.call_api(method, url, header_params=sent, body=data, _request_timeout=300).response
        return response.status, response.data

    def get(self, path: str) -> Object:
        answer = self.ask("GET", path)
        assert answer.code == 200, (path, answer)
        return answer.body

    def as_account(self, namespace: str, name: str) -> "Api":
        """With a token of that ServiceAccount, as its pods have one."""
        return Api(self._kubeconfig, token=self.token_of(namespace, name))

    def token_of(self, namespace: str, name: str) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = self.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", body)
        assert answer.code == 201, answer
        return str(answer.body["status"]["token"])

    def as_group(self, group: str) -> "Api":
        """As some user of that group."""
        return Api(self._kubeconfig, group=group)

    def resources(self) -> list[Resource]:
        """Everything that is served, each version of a group."""
        found = [("", "v1")]
        for group in self.get("/apis")["groups"]:
            found += [(group["name"], version["version"]) for version in group["versions"]]
        return [item for group, version in found for item in self._resources_of(group, version)]

    def _resources_of(self, group: str, version: str) -> list[Resource]:
        listed = self.get(f"/apis/{group}/{version}" if group else f"/api/{version}")["resources"]
        return [
            Resource(group, version, item["name"], item["kind"], frozenset(item["verbs"]), item["namespaced"])
            for item in listed
        ]

    def apply(self, resource: Resource, body: Object) -> Object:
        """Server-side apply; returns what is stored."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        answer = self.ask(
            "PATCH", f"{path}?fieldManager={FIELD_MANAGER}", body, kind_of_body="application/apply-patch+yaml"
        )
        assert answer.code in (200, 201), (path, answer)
        return answer.body
