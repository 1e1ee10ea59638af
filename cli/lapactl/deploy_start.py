"""`lapactl deploy start NAME@production`: one version, pinned, on a cluster, through KServe, or here."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never

from lapa.config.load import parse_override
from lapa.config.serving import TOKEN_VARIABLE, ServingConfig
from lapa.serving.access import load_tokens
from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.deployment import Pinned, deployment_name
from lapa_k8s.deployment_record import Release
from lapa_k8s.errors import ClusterError
from lapa_k8s.rendering.inference_service import inference_service
from lapa_k8s.rendering.manifests import to_yaml
from lapa_k8s.rendering.policy_server import render_deployment
from lapa_k8s.rollout import Outcome, Plan, prune, roll_out
from lapa_k8s.rollout_cluster import ClusterTarget, release_of
from lapactl.deploy_kserve import apply_inference_service
from lapactl.deploy_local import LocalSpec, LocalTarget, local_release, state_folder
from lapactl.deploy_options import TargetKind
from lapactl.deploy_places import (
    Place,
    cluster_spec,
    first_release,
    namespace_of,
    options_of,
    profile_of,
    serving_flags,
)
from lapactl.jobs_target import options_for
from lapactl.output import Output
from lapactl.profiles import validate
from lapactl.registry import person
from lapactl.serve import resolve as resolve_server

LOCAL_STARTUP_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command was told, beside which version."""

    place: Place
    name: str | None = None
    image: str | None = None
    replicas: int | None = None
    token_secret: str | None = None
    token_file: str | None = None
    is_open: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    settings: list[str] = field(default_factory=list)
    seconds: int | None = None
    """How long to wait; the profile's word by default."""
    keep_minutes: int | None = None
    is_reconnecting: bool = False
    is_waiting: bool = True
    is_dry: bool = False
    reason: str = ""


def deploy(out: Output, pinned: Pinned, follows: str | None, wish: Wish) -> None:
    """Raises ConfigError, ClusterError; what runs still runs then."""
    like = first_release(pinned, follows=follows, by=person(), reason=wish.reason)
    match wish.place.kind:
        case TargetKind.LOCAL:
            _deploy_here(out, pinned, like, wish)
        case TargetKind.KUBERNETES | TargetKind.KSERVE:
            _deploy_there(out, pinned, like, wish)
        case _:
            assert_never(wish.place.kind)


def _deploy_there(out: Output, pinned: Pinned, like: Release, wish: Wish) -> None:
    flags = serving_flags(
        image=wish.image, replicas=wish.replicas, token_secret=wish.token_secret, is_open=wish.is_open,
        settings=wish.settings,
    )  # fmt: skip
    profile = profile_of(wish.place, flags)
    resolve_server({"bundle": pinned.url}, wish.settings)  # a misspelt setting is told here, not by a pod
    spec = cluster_spec(profile, pinned, wish.name)
    is_kserve = wish.place.kind is TargetKind.KSERVE
    if wish.is_dry:
        _print(out, [inference_service(spec)] if is_kserve else render_deployment(spec))
        return
    cluster = Cluster.connect(profile.context)
    seconds = wish.seconds or spec.serving.startup_seconds
    if is_kserve:
        done = apply_inference_service(cluster, spec, seconds=seconds if wish.is_waiting else 0, say=out.say)
        out.record(done)
        return
    options = options_for(wish.place.cluster, wish.place.namespace)
    target = ClusterTarget(cluster, namespace_of(profile), options=options)
    plan = _plan(wish, seconds=seconds, keep_minutes=spec.serving.keep_minutes)
    outcome = roll_out(target, spec.name, release_of(spec, like), plan, say=out.say)
    _tell(out, target, spec.name, release_of(spec, like), outcome, seconds)


def _deploy_here(out: Output, pinned: Pinned, like: Release, wish: Wish) -> None:
    chosen = {"bundle": pinned.url, "host": wish.host, "token_file": wish.token_file, "is_open": wish.is_open}
    config: ServingConfig = resolve_server(
        {key: value for key, value in chosen.items() if value is not None}, wish.settings
    )
    load_tokens(config)  # who may ask is the front's address's question; told before anything starts
    token = Path(wish.token_file).read_text() if wish.token_file else os.environ.get(TOKEN_VARIABLE, "")
    settings: dict[str, Any] = {
        "name": wish.name or deployment_name(pinned.model),
        "host": wish.host,
        "port": wish.port,
        "has_token": bool(token),
        "settings": dict(map(parse_override, wish.settings)),
    }
    spec = validate(LocalSpec, settings, what="the deployment")
    release = local_release(spec, pinned, like)
    if wish.is_dry:
        out.json({"release": release.model_dump(mode="json", exclude={"number", "at"})})
        return
    target = LocalTarget(state_folder(wish.place.state), token=token)
    seconds = wish.seconds or LOCAL_STARTUP_SECONDS
    outcome = roll_out(
        target, spec.name, release, _plan(wish, seconds=seconds, keep_minutes=spec.keep_minutes), say=out.say
    )
    _tell(out, target, spec.name, release, outcome, seconds)


def _plan(wish: Wish, *, seconds: float, keep_minutes: int) -> Plan:
    keep = keep_minutes if wish.keep_minutes is None else wish.keep_minutes
    return Plan(
        seconds=seconds, keep=timedelta(minutes=keep), is_reconnecting=wish.is_reconnecting, is_waiting=wish.is_waiting
    )


def _tell(
    out: Output, target: ClusterTarget | LocalTarget, name: str, release: Release, outcome: Outcome, seconds: float
) -> None:
    if outcome.kind != "started":
        tidy(out, lambda: prune(target, name, older_than=timedelta(seconds=2 * seconds)))
    out.record({"deployment": name, "state": outcome.kind, **report(target, name, release, outcome)})
    if outcome.kind == "started":
        out.hint(
            f"the same command, or `lapactl deploy sync {name}{options_of(target)}`, switches to it when it is ready"
        )
    elif outcome.kind == "switched" and outcome.replaced:
        out.hint(
            f"back to version {outcome.replaced.pinned.version}: `lapactl deploy rollback {name}{options_of(target)}`"
        )


def report(target: ClusterTarget | LocalTarget, name: str, release: Release, outcome: Outcome) -> dict[str, Any]:
    """What a change came to, as `--output json` gives it."""
    record = outcome.record
    replaced = outcome.replaced
    return {
        "release": release.name,
        "model": release.pinned.model,
        "version": release.pinned.version,
        "digest": release.pinned.digest,
        "address": target.address(name) if record else None,
        "replaced": replaced.pinned.version if replaced else None,
        "kept_until": record.kept.get(replaced.name) if record and replaced else None,
    }


def tidy(out: Output, work: Callable[[], object]) -> None:
    """What can wait: it failing is no failure of what was asked for."""
    try:
        work()
    except ClusterError as error:
        out.warn(f"old servers were not taken away: {error}")


def _print(out: Output, manifests: list[Manifest]) -> None:
    if out.is_json:
        out.json(manifests)
    else:
        out.text(to_yaml(tuple(manifests)))
