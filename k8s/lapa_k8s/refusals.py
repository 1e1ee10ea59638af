"""What the API's answers mean: from a status code and its words to one error, with the rule and the next move."""

import json
import re
from typing import Any, NamedTuple

from lapa_k8s.errors import (
    AccessDenied,
    ClusterError,
    ClusterUnreachable,
    KindNotServed,
    ManifestRefused,
    NameTaken,
    NotFound,
    Overtaken,
    QuotaExceeded,
)
from lapa_k8s.kinds import DEPLOYMENT, INFERENCE_SERVICE, JOB, PYTORCHJOB, SERVICE, TRAINJOB

INSTALL = {
    PYTORCHJOB.plural: "ask the platform team for Kubeflow's training-operator v1.9, or use --operator trainjob",
    TRAINJOB.plural: "ask the platform team for Kubeflow Trainer 2.2 or later, or use --operator pytorchjob",
    JOB.plural: "the server is not a Kubernetes cluster that runs jobs",
    INFERENCE_SERVICE.plural: "ask the platform team for KServe, or use --target kubernetes",
}

_NOISE = re.compile(r"^\w+\(.*?\): |Failed to establish a new connection: |\[Errno -?\d+\] ")
"""Which object of which package failed to connect."""


class Asked(NamedTuple):
    """The request that was refused."""

    method: str
    path: str
    host: str

    @property
    def words(self) -> str:
        verbs = {"GET": "read", "POST": "create", "PATCH": "change", "DELETE": "delete"}
        return f"{verbs.get(self.method, self.method.lower())} {self._what}"

    @property
    def _what(self) -> str:
        parts = self.path.split("/")
        if "namespaces" not in parts:
            return self.path
        rest = parts[parts.index("namespaces") + 1 :]
        if len(rest) == 1:
            return f"namespace '{rest[0]}'"
        named = f" '{rest[2]}'" if len(rest) > 2 else ""
        return f"{'/'.join(rest[1:2] + rest[3:])}{named} in namespace '{rest[0]}'"


def refusal(asked: Asked, code: int, body: str) -> ClusterError:
    """The error of an HTTP answer."""
    status = _status(body)
    message = str(status.get("message") or body.strip()[:300] or f"HTTP {code}")
    reason = str(status.get("reason") or "")
    match code:
        case 401:
            return AccessDenied(
                f"{asked.host} does not know who you are (401). Log in again: the kubeconfig's token or certificate "
                "has run out or belongs to another cluster"
            )
        case 403 if "exceeded quota" in message:
            return QuotaExceeded(f"the namespace's quota has no room: {message}. Ask for less, or free some of it")
        case 403 if "admission webhook" in message or "violates" in message or "is forbidden: PodSecurity" in message:
            return ManifestRefused(f"a policy of the cluster refuses this: {message}")
        case 403 if '"system:anonymous"' in message:
            return AccessDenied(
                f"{asked.host} was asked without a login: the kubeconfig has none, or the program that it calls for "
                "one failed. Log in again; `kubectl get pods` shows what that program says"
            )
        case 403 if "/namespaces/" not in asked.path:
            return AccessDenied(
                f"you may not {asked.words}: {message}. Ask the platform team: it is a right of the cluster, which no "
                "role of a namespace gives"
            )
        case 403:
            role = _role_for(asked)
            return AccessDenied(
                f"you may not {asked.words}: {message}. Ask the platform team for the role {role} there, "
                "or choose another --namespace"
            )
        case 404:
            return _missing(asked, status, message)
        case 409 if reason == "AlreadyExists":
            return NameTaken(f"cannot {asked.words}: the name is taken. Add --new for a name of its own")
        case 409 if reason == "Conflict":
            return Overtaken(
                f"cannot {asked.words}: somebody else changed it in between. Nothing was changed; look again"
            )
        case 400 | 422:
            return ManifestRefused(f"the cluster finds the manifest invalid: {message}")
        case _:
            return ClusterError(f"the cluster refused to {asked.words} ({code} {reason}): {message}. Try again later")


def _role_for(asked: Asked) -> str:
    """The chart's role that may do it."""
    if asked.path.endswith("/exec"):
        return "lapa-executor"
    served = (DEPLOYMENT.plural, SERVICE.plural, INFERENCE_SERVICE.plural)
    return "lapa-deployer" if any(f"/{plural}" in asked.path for plural in served) else "lapa-submitter"


def unreachable(host: str, why: object) -> ClusterUnreachable:
    text = str(why)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        return ClusterUnreachable(
            f"{host} shows a certificate that the kubeconfig does not trust. Check certificate-authority of its cluster"
        )
    cause = re.sub(r"^\w+\(.*?\): |Failed to establish a new connection: |\[Errno -?\d+\] ", "", text.split("\n")[0])[
        :200
    ]
    return ClusterUnreachable(f"nobody answers at {host}: {cause}. Check the network, VPN and `kubectl cluster-info`")


def _missing(asked: Asked, status: dict[str, Any], message: str) -> ClusterError:
    details = status.get("details") or {}
    if details.get("kind") == "namespaces":
        return NotFound(f"there is no namespace '{details.get('name')}'. Create it, or choose another --namespace")
    if not details.get("name"):  # an object that is missing is named; a kind that is missing is not
        plural = next((name for name in INSTALL if f"/{name}" in asked.path), "")
        group = "/".join(asked.path.split("/")[2:4])
        return KindNotServed(
            f"the cluster does not serve {plural or 'this kind'} ({group}): {INSTALL.get(plural, message)}"
        )
    return NotFound(f"cannot {asked.words}: it is not there. `lapactl jobs list` shows what is")


def _status(body: str) -> dict[str, Any]:
    """The API's own Status object, empty where something else answered (a proxy's page)."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
