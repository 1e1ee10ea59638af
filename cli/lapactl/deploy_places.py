"""Where a `deploy` command looks: a namespace of a cluster, or this machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from lapa.config.load import parse_override
from lapa.errors import ConfigError
from lapa_k8s.client import Cluster
from lapa_k8s.deployment import DeploymentSpec, Pinned, deployment_name
from lapa_k8s.deployment_record import Release, stamp
from lapa_k8s.errors import AccessDenied, ClientMissing, ClusterUnreachable, NotFound
from lapa_k8s.kubeconfig import context_namespace
from lapa_k8s.profile import ClusterProfile
from lapa_k8s.rollout_cluster import ClusterTarget
from lapactl.deploy_local import LocalTarget, state_folder
from lapactl.deploy_options import TargetKind
from lapactl.jobs_target import options_for
from lapactl.profiles import BUILT_IN, validate
from lapactl.submit_settings import Flag, resolve_cluster


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which target, and how it is found."""

    kind: TargetKind
    cluster: str | None = None
    namespace: str | None = None
    state: str | None = None


AnyTarget = ClusterTarget | LocalTarget


def open_target(place: Place) -> AnyTarget:
    """Raises ClusterUnreachable, ConfigError."""
    match place.kind:
        case TargetKind.KUBERNETES:
            profile = profile_of(place)
            options = options_for(place.cluster, place.namespace)
            return ClusterTarget(Cluster.connect(profile.context), namespace_of(profile), options=options)
        case TargetKind.LOCAL:
            return LocalTarget(state_folder(place.state))
        case TargetKind.KSERVE:
            raise ConfigError(
                "KServe rolls its InferenceServices out itself and keeps no record of ours: `kubectl get "
                "inferenceservice` shows them, `lapactl deploy start NAME@production --target kserve` brings one to "
                "what the alias names now, and `lapactl deploy start NAME/VERSION --target kserve` goes back. This "
                "command knows --target kubernetes and local."
            )
        case _:
            assert_never(place.kind)


def options_of(target: AnyTarget) -> str:
    """What a suggested command needs, too, to mean the same place."""
    return target.options


@contextmanager
def saying_what_is_here(place: Place, command: str, names: Sequence[str] | None) -> Iterator[None]:
    """Where a cluster was asked in vain: the error says what is deployed on this machine under these names (all, where
    none is given), with `command` as it is typed for that."""
    try:
        yield
    except (NotFound, ClusterUnreachable, AccessDenied, ClientMissing, ConfigError) as error:
        if not (words := what_is_here(place, command, names)):
            raise
        raise type(error)(f"{error}\n{words}") from error


@contextmanager
def offering_this_machine(place: Place, command: str) -> Iterator[None]:
    """Where there is no cluster, or none that anybody has described: the error says how to do without."""
    try:
        yield
    except (ClusterUnreachable, ClientMissing, ConfigError) as error:
        is_about_settings = isinstance(error, ConfigError)
        if place.kind is not TargetKind.KUBERNETES or (is_about_settings and _has_profile(place)):
            raise
        raise type(error)(f"{error}\nOn this machine, without a cluster: `{command}`") from error


def _has_profile(place: Place) -> bool:
    try:
        return resolve_cluster(place.cluster).name != BUILT_IN
    except ConfigError:
        return True


def what_is_here(place: Place, command: str, names: Sequence[str] | None) -> str:
    """Empty where a command about a cluster is about nothing that this machine has, too."""
    here = LocalTarget(state_folder(place.state))
    found = [name for name in here.deployed() if not names or name in names]
    if place.kind is not TargetKind.KUBERNETES or not found:
        return ""
    listed = ", ".join(f"'{name}'" for name in found)
    typed = " ".join([command, *(found if names else [])])
    return f"This machine has a deployment {listed}: `lapactl deploy {typed}{here.options}`"


def profile_of(place: Place, flags: list[Flag] | None = None) -> ClusterProfile:
    """Raises ConfigError."""
    named = [Flag("--namespace", "cluster.namespace", place.namespace)] if place.namespace else []
    return resolve_cluster(place.cluster, flags=[*named, *(flags or [])]).profile


def namespace_of(profile: ClusterProfile) -> str:
    return profile.namespace or context_namespace(profile.context)


def serving_flags(
    *, image: str | None, replicas: int | None, token_secret: str | None, is_open: bool, settings: list[str]
) -> list[Flag]:
    """Options as settings of the profile, which they win over."""
    secret, _, key = (token_secret or "").partition(":")
    chosen = [
        ("--image", "cluster.images.serve", image),
        ("--replicas", "cluster.serving.replicas", replicas),
        ("--token-secret", "cluster.serving.token", {"secret": secret, "key": key or "token"} if secret else None),
        ("--insecure", "cluster.serving.is_open", True if is_open else None),
        *(("--set", f"cluster.serving.settings.{key}", value) for key, value in map(parse_override, settings)),
    ]
    return [Flag(option, key, value) for option, key, value in chosen if value is not None]


def cluster_spec(profile: ClusterProfile, pinned: Pinned, name: str | None) -> DeploymentSpec:
    """Raises ConfigError with every problem."""
    settings: dict[str, Any] = {
        "name": name or deployment_name(pinned.model),
        "namespace": namespace_of(profile),
        "pinned": pinned,
        "images": profile.images,
        "serving": profile.serving,
        "storage": profile.storage,
        "security": profile.security,
        "environment": profile.environment,
        "annotations": profile.annotations,
    }
    return validate(DeploymentSpec, settings, what="the deployment")


def first_release(pinned: Pinned, *, follows: str | None, by: str, reason: str) -> Release:
    """What a release says whatever runs it; its target adds the rest, and the record its number."""
    return Release(
        number=1, name="new", pinned=pinned, follows=follows, by=by, reason=reason, at=stamp(datetime.now(UTC)), spec={}
    )
