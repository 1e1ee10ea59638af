"""From a name to a version that may be deployed: pinned by number and digest, its bundle looked at, its gates told."""

from lapa.errors import ConfigError, DataError, LapaError, NotRegistered, PolicyError, TrackingError
from lapa.policy.manifest import bundle_digest, read_manifest
from lapa.tracking.ledger import PRODUCTION, read_ledger
from lapa.tracking.references import parse_reference, resolve
from lapa.tracking.registry import ModelVersion, Registry
from lapa_k8s.deployment import Pinned
from lapa_k8s.rollout_sync import Finder
from lapactl.errors import is_about_storage
from lapactl.output import Output


def pin(registry: Registry, reference: str, *, is_checked: bool) -> Pinned:
    """The version that a reference means now. Raises TrackingError, PolicyError, DataError; nothing is changed."""
    version = resolve(registry, reference, default=PRODUCTION)
    pinned = pinned_version(version)
    if is_checked:
        check_bundle(pinned)
    return pinned


def pinned_version(version: ModelVersion) -> Pinned:
    if len(version.digest) != 64:
        raise PolicyError(
            f"{version.name}/{version.version} has no digest of a bundle, so what runs could not be compared with it. "
            "Register policies with `lapactl export`."
        )
    return Pinned(model=version.name, version=version.version, digest=version.digest, url=version.url)


def followed_alias(reference: str) -> str | None:
    """The alias that decides what should run; None where a version is named."""
    which = parse_reference(reference).which
    return None if isinstance(which, int) else which or PRODUCTION


def check_bundle(pinned: Pinned) -> None:
    """The manifest alone, which is small; servers check every file. Raises PolicyError, DataError."""
    try:
        found = bundle_digest(read_manifest(pinned.url))
    except LapaError:
        raise
    except Exception as error:
        if not is_about_storage(error):
            raise
        raise DataError(
            f"the bundle {pinned.url} cannot be read from here: {type(error).__name__}: {error}. Nothing was started. "
            "Check the object store and your keys, or say --no-check where only the servers reach it."
        ) from error
    if found != pinned.digest:
        raise PolicyError(
            f"{pinned.url} holds bundle {found[:12]}…, but {pinned.model}/{pinned.version} was registered as "
            f"{pinned.digest[:12]}…: somebody replaced it. Nothing was started. Export the policy to a folder of its "
            "own, or deploy another version."
        )


def tell_gates(out: Output, registry: Registry, pinned: Pinned) -> None:
    """What is known about the version's promotion, where it is less than usual."""
    ledger = read_ledger(registry, pinned.model)
    judged = [entry.decision for entry in ledger if entry.decision.version == pinned.version]
    if not judged:
        out.warn(f"no gate judged {pinned.model}/{pinned.version}: `lapactl promote {pinned.model}/{pinned.version}`")
    elif judged[-1].forced:
        forced = ", ".join(judged[-1].forced)
        out.warn(f"{judged[-1].who} promoted it by force, over {forced} ({judged[-1].reason})")


class Absent(str):
    """Why it is not known what should run: the registry answers, and has no such model or alias."""


def finder(registry: Registry | None, reason: str = "") -> Finder:
    """What aliases mean now; without a registry only why nobody knows. Each model is asked about once."""
    known: dict[tuple[str, str], Pinned | str] = {}

    def ask(model: str, alias: str) -> Pinned | str:
        if registry is None:
            return reason
        try:
            return pinned_version(resolve(registry, f"{model}@{alias}"))
        except NotRegistered as error:
            return Absent(error)
        except (TrackingError, PolicyError, ConfigError) as error:
            return str(error)

    def find(model: str, alias: str) -> Pinned | str:
        if (model, alias) not in known:
            known[model, alias] = ask(model, alias)
        return known[model, alias]

    return find
