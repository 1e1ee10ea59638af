"""Which cluster and namespace a command is about."""

import re
from typing import NamedTuple

from lapa.errors import ConfigError
from lapa_k8s.client import Cluster
from lapa_k8s.kubeconfig import context_namespace
from lapactl.submit_settings import Flag, resolve_cluster

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Target(NamedTuple):
    """A namespace of a cluster."""

    cluster: Cluster
    namespace: str
    tracking_uri: str | None
    """The MLflow server of its jobs, as the profile names it."""


def connect(profile: str | None, namespace: str | None) -> Target:
    flags = [Flag("--namespace", "cluster.namespace", namespace)] if namespace else []
    settings = resolve_cluster(profile, flags=flags).profile
    return Target(
        Cluster.connect(settings.context),
        settings.namespace or context_namespace(settings.context),
        settings.tracking.uri,
    )


def seconds_of(text: str | None) -> int | None:
    """`15m` as 900. Raises ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    if match is None:
        raise ConfigError(f"'{text}' is no time span; write 90s, 15m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2] or "s"]
