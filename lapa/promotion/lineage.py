"""What a model was made from, and which models were made from a dataset.

Registered versions name their inputs by digest; what nobody registered (labels, or models made while the tracking
server was away) is read off the folders of the stages, where they can be reached.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lapa import files
from lapa.data.dataset import Dataset, DatasetInfo
from lapa.errors import LapaError
from lapa.stages.origin import DATASET_ROLES, inputs_behind
from lapa.stages.results import Artifact
from lapa.tracking.registry import ModelVersion, Registry

SHORTEST_DIGEST = 6
"""Characters that a digest may be shortened to."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Something that was made, and what it was made from."""

    role: str
    """What the next one used it as: `laq`, `videos`, …; the model's name at the root."""
    url: str
    digest: str
    version: ModelVersion | None = None
    """The registered version with this digest, where there is one."""
    dataset: DatasetInfo | None = None
    gap: str = ""
    """Why nothing is known of what it was made from."""
    inputs: tuple["Origin", ...] = ()

    def walk(self) -> Iterator["Origin"]:
        """Itself and everything behind it; what was used twice comes twice."""
        yield self
        for origin in self.inputs:
            yield from origin.walk()

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        described: dict[str, Any] = {"role": self.role, "url": self.url, "digest": self.digest}
        if self.version is not None:
            described["registered"] = f"{self.version.name}/{self.version.version}"
        if self.dataset is not None:
            described |= {
                "episodes": self.dataset.num_episodes,
                "licences": self.dataset.licences,
                "source": self.dataset.source,
            }
        if self.gap:
            described["gap"] = self.gap
        return described | {"inputs": [origin.plain() for origin in self.inputs]}


@dataclass(frozen=True, kw_only=True)
class Container:
    """A version that has something behind it."""

    version: ModelVersion
    path: tuple[str, ...]
    """Roles from the version down to it."""


def lineage(registry: Registry, version: ModelVersion) -> Origin:
    """Everything behind a version, as far as the registry and the reachable folders know."""
    by_digest = _by_digest(registry) | {version.digest: version}
    return _origin(version.name, version.url, version.digest, by_digest, ())


def source_files(url: str) -> list[str]:
    """The files that a dataset was ingested from. DataError where there is no dataset."""
    sources = Dataset.open(url).index.column("source").to_pylist()
    return sorted({source.partition("#")[0] for source in sources})


def containing(registry: Registry, what: str) -> list[Container]:
    """Registered versions, of any model, with `what` behind them: a dataset, labels or a model, named by its digest
    (or the first characters of it), its URL, or the last part of its URL. Asks the registry alone."""
    by_digest = _by_digest(registry)
    found = []
    for version in registry.list_models():
        path = _path_to(what, version, by_digest, ())
        if path is not None:
            found.append(Container(version=version, path=path))
    return found


def _by_digest(registry: Registry) -> dict[str, ModelVersion]:
    return {version.digest: version for version in registry.list_models() if version.digest}


def _origin(role: str, url: str, digest: str, by_digest: Mapping[str, ModelVersion], above: tuple[str, ...]) -> Origin:
    version = by_digest.get(digest)
    if role in DATASET_ROLES and version is None:
        return _dataset_origin(role, url, digest)
    if digest in above:  # a broken tag, and no reason to hang
        return Origin(role=role, url=url, digest=digest, version=version, gap="it is named as made from itself")
    made_from = _inputs(url, version)
    inputs = tuple(
        _origin(name, what.url, what.digest, by_digest, (*above, digest)) for name, what in sorted(made_from.items())
    )
    gap = "" if inputs else "it is not registered with its inputs, and its stage's folder cannot be read"
    return Origin(role=role, url=url, digest=digest, version=version, inputs=inputs, gap=gap)


def _inputs(url: str, version: ModelVersion | None) -> dict[str, Artifact]:
    if version is not None and version.inputs:
        return {name: Artifact(url=what.get("url", ""), digest=what["digest"]) for name, what in version.inputs.items()}
    return inputs_behind(url)


def _dataset_origin(role: str, url: str, digest: str) -> Origin:
    try:
        info = Dataset.open(url).info
    except (LapaError, OSError) as error:
        return Origin(role=role, url=url, digest=digest, gap=f"the dataset cannot be read now: {str(error)[:120]}")
    if info.revision != digest:
        changed = f"the dataset at this URL is now another one (revision {info.revision})"
        return Origin(role=role, url=url, digest=digest, gap=changed)
    return Origin(role=role, url=url, digest=digest, dataset=info)


def _path_to(
    what: str, version: ModelVersion, by_digest: Mapping[str, ModelVersion], above: tuple[str, ...]
) -> tuple[str, ...] | None:
    for role, made_from in sorted(version.inputs.items()):
        digest, url = made_from.get("digest", ""), made_from.get("url", "")
        if _is_named(what, digest, url):
            return (role,)
        earlier = by_digest.get(digest)
        if earlier is None or digest in above:
            continue
        rest = _path_to(what, earlier, by_digest, (*above, digest))
        if rest is not None:
            return (role, *rest)
    return None


def _is_named(what: str, digest: str, url: str) -> bool:
    is_start = len(what) >= SHORTEST_DIGEST and digest.startswith(what)
    return is_start or what.rstrip("/") == url.rstrip("/") or what == files.name_of(url)
