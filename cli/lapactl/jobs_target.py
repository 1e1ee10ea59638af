"""Which cluster and namespace a command is about."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lapa.errors import ConfigError
from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError
from lapa_k8s.kubeconfig import context_namespace
from lapactl.submit_settings import Flag, resolve_cluster

_SUGGESTED = re.compile(r"lapactl jobs [^`\n]+")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Target(NamedTuple):
    """A namespace of a cluster."""

    cluster: Cluster
    namespace: str
    tracking_uri: str | None
    """The MLflow server of its jobs, as the profile names it."""
    options: str = ""
    """By which the place was named: a suggested command needs them, too."""


@contextmanager
def connect(profile: str | None, namespace: str | None) -> Iterator[Target]:
    """While open, what the cluster refuses suggests commands for the same place."""
    flags = [Flag("--namespace", "cluster.namespace", namespace)] if namespace else []
    settings = resolve_cluster(profile, flags=flags).profile
    options = options_for(profile, namespace)
    with suggesting_here(options):
        yield Target(
            Cluster.connect(settings.context),
            settings.namespace or context_namespace(settings.context),
            settings.tracking.uri,
            options,
        )


def options_for(profile: str | None, namespace: str | None) -> str:
    """What names a place, as it was given."""
    given = {"--cluster": profile, "--namespace": namespace}
    return "".join(f" {option} {shlex.quote(value)}" for option, value in given.items() if value)


def with_options(words: str, options: str) -> str:
    """Words whose `lapactl jobs …` has the options that name the place."""
    return _SUGGESTED.sub(lambda found: found[0] + options, words)


@contextmanager
def suggesting_here(options: str) -> Iterator[None]:
    """While open, an error of the cluster suggests commands with these options."""
    try:
        yield
    except ClusterError as error:
        error.args = (with_options(str(error), options),)
        raise


def seconds_of(text: str | None) -> int | None:
    """`15m` as 900. Raises ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    if match is None:
        raise ConfigError(f"'{text}' is no time span; write 90s, 15m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2] or "s"]
