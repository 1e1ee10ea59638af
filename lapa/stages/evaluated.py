"""Which policy stage `evaluate` judges where it is not the one that the run itself finetuned. Needs no torch."""

import os
import re
from dataclasses import dataclass
from typing import Literal, assert_never

from lapa import files
from lapa.config.run import RunConfig
from lapa.config.serving import TOKEN_VARIABLE
from lapa.errors import ConfigError, MissingDependency, PolicyError
from lapa.policy.manifest import bundle_digest, read_manifest, read_policy_card
from lapa.stages.results import Artifact
from lapa.tracking.references import resolve
from lapa.tracking.registry import Registry

PolicyKind = Literal["registered", "bundle", "server"]
_SERVER = re.compile(r"(ws|http)(s?)://")
_REGISTERED = re.compile(r"[^/@.][^/@]*(/\d+|@[a-z][a-z0-9_-]*)?")


@dataclass(frozen=True, kw_only=True)
class JudgedPolicy:
    """A policy that is there already."""

    artifact: Artifact
    """Where it is, and the digest of its bundle; of a server, what it says of itself."""
    frame_size: int
    """Side of the frames that it was trained on."""
    proprioception_dims: int
    is_served: bool
    """Whether `artifact.url` is a server's address, and not a bundle's."""

    @property
    def inputs(self) -> dict[str, Artifact]:
        """Of the stage: what a server answers is a result of its own, of the server as much as of the policy."""
        url = self.artifact.url
        server = {"server": Artifact(url=url, digest=files.digest(url))} if self.is_served else {}
        return {"policy": self.artifact, **server}


def kind_of(policy: str) -> PolicyKind:
    """What `evaluate.policy` names. A local bundle is told from a registered name by a `/` or `.` in front."""
    if _SERVER.match(policy):
        return "server"
    return "registered" if _REGISTERED.fullmatch(policy) else "bundle"


def find_judged(run: RunConfig) -> JudgedPolicy:
    """What `evaluate.policy` means now.

    Raises TrackingError for a version that is not there, PolicyError for a bundle that is not what was registered,
    ServingError for a server that stays away.
    """
    policy = named_policy(run)
    match kind_of(policy):
        case "registered":
            version = resolve(open_registry(run), policy)
            return _bundle(version.url, expected=version.digest)
        case "bundle":
            return _bundle(policy)
        case "server":
            return _served(policy)
        case unknown:
            assert_never(unknown)


def pinned(run: RunConfig) -> RunConfig:
    """The run with an alias replaced by the version that it means now; others as they are. TrackingError as above."""
    if run.evaluate is None or run.evaluate.policy is None or kind_of(run.evaluate.policy) != "registered":
        return run
    version = resolve(open_registry(run), run.evaluate.policy)
    found = run.evaluate.model_copy(update={"policy": f"{version.name}/{version.version}"})
    return run.model_copy(update={"evaluate": found})


def named_policy(run: RunConfig) -> str:
    """`evaluate.policy`. ConfigError where the run judges its own."""
    if run.evaluate is None or run.evaluate.policy is None:
        raise ConfigError("evaluate.policy is null: the run judges the policy that its stage finetune makes")
    return run.evaluate.policy


def open_registry(run: RunConfig) -> Registry:
    """Where the run's models are registered."""
    return Registry.open(run.tracking, store=run.work_url)


def server_token() -> str | None:
    """What servers ask for; in a job from the profile's `secrets`. Of several, one a line, any is good."""
    return next(iter(os.environ.get(TOKEN_VARIABLE, "").split()), None)


def websocket_url(address: str) -> str:
    """A server speaks both protocols at one address."""
    return _SERVER.sub(r"ws\2://", address, count=1)


def _bundle(url: str, *, expected: str | None = None) -> JudgedPolicy:
    digest = bundle_digest(read_manifest(url))
    if expected is not None and digest != expected:
        raise PolicyError(
            f"at {url} lies another bundle ({digest[:12]}…) than was registered ({expected[:12]}…). Export the "
            "registered policy again, to a folder of its own, and evaluate that."
        )
    card = read_policy_card(url)
    return _judged(url, digest, card.get("frame_size"), card["proprioception_dims"], is_served=False)


def _served(address: str) -> JudgedPolicy:
    try:
        from lapa.client import PolicyClient  # websockets: an optional dependency
    except ImportError as error:
        raise MissingDependency(f"asking {address} needs websockets and msgpack: pip install 'lapa[client]'") from error
    with PolicyClient(websocket_url(address), token=server_token()) as client:
        said = client.metadata
    return _judged(
        websocket_url(address),
        str(said.get("digest", "")),
        said.get("frame_size"),
        int(said.get("proprioception_dims", 0)),
        is_served=True,
    )


def _judged(url: str, digest: str, frame_size: int | None, proprioception: int, *, is_served: bool) -> JudgedPolicy:
    if not frame_size or not digest:
        raise PolicyError(
            f"{url} does not say {'its digest' if frame_size else 'what size of frame its policy was trained on'}, so "
            "its success would be compared with nothing. Serve or export it with this version of lapa."
        )
    return JudgedPolicy(
        artifact=Artifact(url=url, digest=digest),
        frame_size=frame_size,
        proprioception_dims=proprioception,
        is_served=is_served,
    )
