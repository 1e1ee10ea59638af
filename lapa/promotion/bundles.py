"""From a finetune stage's folder to a verified bundle in an object store and a version in the registry."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fsspec

from lapa import files
from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.errors import ConfigError, PolicyError
from lapa.policy.manifest import (
    BLOCK_BYTES,
    MANIFEST_FILE,
    POLICY_FILE,
    RECORDED_FILE,
    bundle_digest,
    bundle_files,
    file_digest,
    read_manifest,
    verify_bundle,
)
from lapa.promotion.sources import suggest_policies
from lapa.stages.plan import NotMadeYet, stage_folder
from lapa.stages.results import RESULT_FILE, Artifact, StageResult, read_result
from lapa.tracking.evidence import OUTCOMES_FILE, evaluation_of, evaluation_tags
from lapa.tracking.ledger import CANDIDATE
from lapa.tracking.records import Records
from lapa.tracking.registry import URL_TAG, ModelVersion, Registry

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FoundPolicy:
    """A bundle, and what its stage said about it."""

    url: str
    digest: str
    result: StageResult | None
    """None for a bundle that lies alone."""
    evaluations: Mapping[str, str] = field(default_factory=dict)
    """Tags that attach the evaluations that lie beside the stage."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of finetuning and of those evaluations."""

    @property
    def inputs(self) -> dict[str, Artifact]:
        return dict(self.result.inputs) if self.result is not None else {}

    @property
    def folder(self) -> str:
        """Of the stage that made it, where it lies now; of a bundle that lies alone, its own."""
        return self.url.rpartition("/")[0] if self.result is not None else self.url

    @property
    def run(self) -> str | None:
        """The run or baseline that made it."""
        return self.result.name if self.result is not None else None

    @property
    def stage(self) -> str | None:
        return self.result.stage if self.result is not None else None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A bundle that was written and read back."""

    url: str
    digest: str
    files: int
    bytes: int
    has_recorded: bool
    """Whether observations travel in it, which whoever serves it replays."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A bundle's version, and the one that it replaced as the candidate."""

    version: ModelVersion
    candidate_before: int | None
    """The version that was the candidate until now; None where none was, or the alias was left alone."""


def find_policy(source: str, *, work_url: str | None = None) -> FoundPolicy:
    """A bundle's folder, a finetune stage's folder, a preset or a run's YAML file.

    ConfigError for what is none of these, with what there is in the run's work folder; NotMadeYet for a run that has
    not been finetuned.
    """
    if files.exists(files.join(source, MANIFEST_FILE)):
        return _found(source.rstrip("/"), _result_of(source))
    if files.exists(files.join(source, RESULT_FILE)):
        return _of_stage(source, work_url)
    try:
        run = load_run(source)
    except ConfigError as error:
        if source.endswith((".yaml", ".yml")):
            raise
        raise ConfigError(f"{_no_policy(source, error)}\n{suggest_policies(source, work_url)}") from error
    return _of_run(run)


def export(found: FoundPolicy, url: str, *, progress: Progress = lambda name: None) -> Exported:
    """Copy a bundle to any fsspec URL and read it back; the manifest goes last. Begun copies are gone on with.

    PolicyError when the source is damaged, when another bundle is at `url`, or when the copy is not what was sent.
    """
    if (local := files.local_path(url)) is not None:
        url = str(local.absolute())  # the registry is read from other folders, too
    verify_bundle(found.url, expected=found.digest)
    named = read_manifest(found.url)["files"]
    _refuse_other(url, found.digest, set(named))
    for name in sorted(named):
        progress(name)
        if bundle_size(url, name) is None or file_digest(url, name) != named[name]:
            _copy(files.join(found.url, name), files.join(url, name))
    files.write_bytes(files.join(url, MANIFEST_FILE), files.read_bytes(files.join(found.url, MANIFEST_FILE)))
    verify_bundle(url, expected=found.digest, progress=lambda name: progress(f"read back {name}"))
    sizes = bundle_files(url)
    return Exported(
        url=url,
        digest=found.digest,
        files=len(sizes) + 1,
        bytes=sum(sizes.values()),
        has_recorded=RECORDED_FILE in named,
    )


def register(
    registry: Registry, records: Records, found: FoundPolicy, exported: Exported, *, name: str, candidate: bool = True
) -> Registered:
    """Register an exported bundle with its lineage, its evaluations and its manifest; the same digest again is the
    same version, at its new address. Call it with what `export` returned: the files have been read back."""
    run_id = str(found.result.tracking.get("run_id") or "") if found.result is not None else ""
    version = registry.register(
        name,
        exported.url,
        digest=found.digest,
        inputs={role: artifact.model_dump() for role, artifact in found.inputs.items()},
        run_id=run_id,
        tags={**_stage_tags(found.result), **_metric_tags(found.metrics)},
    )
    papers = {f"bundle/{file}": files.read_bytes(files.join(exported.url, file)).decode() for file in PAPERS}
    record = records.keep(
        f"export-{name}-{version.version}",
        tags={"lapa.stage": "export", "lapa.model": f"{name}/{version.version}", "lapa.url": exported.url},
        texts=papers,
    )
    placed = {URL_TAG: exported.url, "lapa.export": record.run_id, "lapa.bytes": str(exported.bytes)}
    registry.set_tags(name, version.version, {**found.evaluations, **placed})
    before = set_candidate(registry, version) if candidate else None
    return Registered(version=registry.get(name, version.version), candidate_before=before)


def set_candidate(registry: Registry, version: ModelVersion) -> int | None:
    """Propose a version, and say which one was the candidate before; no gate is asked, for nothing is deployed from
    this alias."""
    before = registry.aliases(version.name).get(CANDIDATE)
    registry.set_alias(version.name, CANDIDATE, version.version)
    return before


PAPERS = (MANIFEST_FILE, POLICY_FILE)
"""What MLflow holds of a bundle; the weights stay in the object store."""


def bundle_size(url: str, name: str) -> int | None:
    """Bytes of a file of a bundle that is there already."""
    folder, _, last = files.join(url, name).rpartition("/")
    return files.list_sizes(folder).get(last)


def _no_policy(source: str, error: ConfigError) -> str:
    if files.exists(source):
        what = f"is neither a policy bundle ({MANIFEST_FILE}) nor a finished finetune folder ({RESULT_FILE})"
        return f"{source} {what}, and as a run: {error}"
    return f"there is no folder {source}." if "/" in source else f"there is no folder {source}, and as a run: {error}"


def _of_stage(folder: str, work_url: str | None) -> FoundPolicy:
    result = read_result(folder)
    if result is None or "policy" not in result.outputs:
        what = f"holds no {RESULT_FILE}" if result is None else f"is of stage {result.stage}"
        raise ConfigError(f"{folder} {what}, and no policy.\n{suggest_policies(folder, work_url)}")
    # Where it lies now: a work folder may have been moved since its result was written.
    return _found(files.join(folder, "policy"), result)


def _of_run(run: RunConfig) -> FoundPolicy:
    if run.finetune is None:
        raise ConfigError(f"the run '{run.name}' makes no policy: its finetune is null. Export one that has that stage")
    folder = stage_folder(run, "finetune")
    result = read_result(folder)
    if result is None:
        raise NotMadeYet(
            f"stage 'finetune' of run '{run.name}' has not finished: {folder} holds no {RESULT_FILE}. Run it first: "
            "lapactl run finetune"
        )
    return _found(files.join(folder, "policy"), result)


def _found(url: str, result: StageResult | None) -> FoundPolicy:
    digest = bundle_digest(read_manifest(url))
    if result is not None and result.outputs["policy"].digest != digest:
        raise PolicyError(
            f"{url} is not the bundle that stage finetune wrote: its digest is {digest[:12]}…, the stage's result says "
            f"{result.outputs['policy'].digest[:12]}…. Run stage finetune again: lapactl run … --force finetune."
        )
    metrics, evaluations = _evaluations(url, digest) if result is not None else ({}, {})
    return FoundPolicy(
        url=url,
        digest=digest,
        result=result,
        metrics={**(result.metrics if result is not None else {}), **metrics},
        evaluations=evaluations,
    )


def _result_of(bundle: str) -> StageResult | None:
    """The result of the stage whose folder the bundle lies in."""
    result = read_result(bundle.rstrip("/").rpartition("/")[0])
    return result if result is not None and "policy" in result.outputs else None


def _evaluations(bundle: str, digest: str) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags of the finished evaluations of this very bundle in the same work folder."""
    work = bundle.rpartition("/")[0].rpartition("/")[0]
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    for name in files.list_names(work):
        folder = files.join(work, name)
        result = read_result(folder) if name.startswith("evaluate-") else None
        if result is None or result.inputs["policy"].digest != digest:
            continue
        metrics |= result.metrics
        url = files.join(folder, OUTCOMES_FILE)
        if files.exists(url):
            run_id = str(result.tracking.get("run_id") or "")
            tags |= evaluation_tags(
                evaluation_of(files.read_bytes(url), url=url, run_id=run_id, finished=result.finished)
            )
    return metrics, tags


def _refuse_other(url: str, digest: str, names: set[str]) -> None:
    """Never write into somebody else's folder."""
    if files.exists(files.join(url, MANIFEST_FILE)):
        there = bundle_digest(read_manifest(url))
        if there != digest:
            raise PolicyError(
                f"{url} already holds another bundle ({there[:12]}…); nothing was written. Export to a new folder: a "
                "deployment may be reading that one."
            )
    if foreign := sorted(set(bundle_files(url)) - names):
        raise PolicyError(
            f"{url} holds {', '.join(foreign[:3])}, which is no file of this bundle; nothing was written. Export to an "
            "empty folder."
        )


def _copy(source: str, target: str) -> None:
    local = files.local_path(target)
    if local is not None:
        Path(local).parent.mkdir(parents=True, exist_ok=True)
    with fsspec.open(source, "rb") as reader, fsspec.open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, BLOCK_BYTES)


def _stage_tags(result: StageResult | None) -> dict[str, str]:
    if result is None:
        return {}
    told = {"lapa.stage": result.stage, "lapa.run": result.name, "lapa.fingerprint": result.fingerprint}
    return {**told, **result.code}


def _metric_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    return {f"lapa.metric.{name.replace('/', '.')}": f"{value:.6g}" for name, value in metrics.items()}
