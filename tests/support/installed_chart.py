"""The chart on an API server: applied, brought up to date and removed as helm does it.

helm itself refuses a server older than the chart asks for, and the one that tests build is; so it renders, for a
current Kubernetes and for the APIs that this server has, and what it rendered is sent from here.
"""

from typing import NamedTuple

import yaml
from api_requests import Api, Object, Resource
from helm_chart import template

KUBERNETES = "1.31.0"
NOT_OURS = ("events", "endpoints", "endpointslices", "leases", "apiservices")
"""What servers and controllers write by themselves."""


class Place(NamedTuple):
    """Where an object is."""

    group: str
    plural: str
    namespace: str
    name: str


BOOKKEEPING = ("resourceVersion", "managedFields")
"""Of an object's metadata: an old server writes volume claims anew whenever they are applied, changed or not."""


def content(stored: Object) -> Object:
    """What is stored, without the server's bookkeeping."""
    metadata = {key: value for key, value in stored["metadata"].items() if key not in BOOKKEEPING}
    return {**stored, "metadata": metadata}


class Release:
    """One release of the chart in a namespace of a server."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self.namespace = api, namespace
        self._resources = [item for item in api.resources() if "/" not in item.name]
        self._apis = [f"{item.group}/{item.version}" if item.group else item.version for item in self._resources]
        self.left_out: dict[str, str] = {}
        """Objects whose API this server has not, and which API that is."""
        self._objects: dict[Place, Object] = {}

    def render(self, profile: str, *settings: str) -> list[Object]:
        kinds = [f"{api}/{item.kind}" for api, item in zip(self._apis, self._resources, strict=True)]
        text = template(
            profile, settings=settings, apis=(*sorted(set(self._apis)), *kinds), namespace=self.namespace,
            kubernetes=KUBERNETES,
        )  # fmt: skip
        return [item for item in yaml.safe_load_all(text) if item]

    def install(self, profile: str, *settings: str) -> dict[Place, Object]:
        """Bring the server to what the profile says; what an earlier call made and this one has not is removed."""
        stored: dict[Place, Object] = {}
        sent: dict[Place, Object] = {}
        self.left_out = {}
        for body in self.render(profile, *settings):
            resource = self._resource_of(body)
            if resource is None:
                self.left_out[f"{body['kind']}/{body['metadata']['name']}"] = body["apiVersion"]
                continue
            place = self._place(resource, body)
            sent[place], stored[place] = body, content(self._api.apply(resource, body))
        for place in self._objects.keys() - sent.keys():
            self._delete(place)
        self._objects = sent
        return stored

    def sent(self) -> dict[Place, Object]:
        return dict(self._objects)

    def remove(self) -> None:
        for place in list(self._objects):
            self._delete(place)
        self._objects = {}

    def everything(self) -> set[Place]:
        """All that is on the server, in the release's namespace and outside of any."""
        found = set()
        for resource in {(item.group, item.name): item for item in self._resources}.values():
            if "list" in resource.verbs and resource.name not in NOT_OURS:
                for item in self._api.get(resource.path(self.namespace))["items"]:
                    found.add(self._place(resource, item))
        return found

    def let_go_of_volumes(self) -> None:
        """What a controller does once no pod uses them: a server alone keeps removed claims for ever."""
        claims = f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims"
        for item in self._api.get(claims)["items"]:
            if item["metadata"].get("deletionTimestamp"):
                path = f"{claims}/{item['metadata']['name']}"
                change = {"metadata": {"finalizers": None}}
                self._api.ask("PATCH", path, change, kind_of_body="application/merge-patch+json")

    def _resource_of(self, body: Object) -> Resource | None:
        group, _, version = body["apiVersion"].rpartition("/")
        wanted = (group, version, body["kind"])
        return next((item for item in self._resources if (item.group, item.version, item.kind) == wanted), None)

    def _place(self, resource: Resource, body: Object) -> Place:
        namespace = self.namespace if resource.is_namespaced else ""
        return Place(resource.group, resource.name, namespace, body["metadata"]["name"])

    def _delete(self, place: Place) -> None:
        resource = next(item for item in self._resources if (item.group, item.name) == (place.group, place.plural))
        answer = self._api.ask("DELETE", resource.path(place.namespace, place.name))
        assert answer.code in (200, 202), (place, answer)
