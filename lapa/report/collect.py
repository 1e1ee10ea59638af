"""Reads a run's stage folders and datasets into a `RunSummary`. What is missing is shown as missing."""

import importlib.metadata
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from lapa import files
from lapa.config.latent_action import NoQuantizerConfig
from lapa.config.load import arms, dump_run
from lapa.config.run import RunConfig
from lapa.config.stages import STAGES
from lapa.report.datasets import summarize_dataset
from lapa.report.pictures import picture_uri
from lapa.report.summary import (
    ArmSummary,
    ArtifactSummary,
    CodebookRules,
    DatasetSummary,
    Picture,
    RunSummary,
    StageSummary,
)
from lapa.tracking.stage_log import read_history

logger = logging.getLogger(__name__)

PACKAGES = ("lapa", "torch", "deepspeed", "transformers", "mlflow", "av")

StageFolders = Mapping[str, Mapping[str, str]]
"""Arm -> stage -> URL of the stage's folder."""


def collect_run(
    work_url: str, run: RunConfig, *, folders: StageFolders | None = None, command: str = "lapactl run run.yaml"
) -> RunSummary:
    """Everything a report shows of a run and its baselines.

    ``folders`` says where each arm's stages are, as the stage plan knows; baselines share folders with the
    run where they share stages. Without it the newest results in ``work_url`` that carry an arm's name are
    taken. ``command`` reproduces the run from its resolved file.
    """
    resolved = arms(run)
    known = folders if folders is not None else _find_folders(work_url, list(resolved))
    summaries = tuple(_arm(name, run, arm, known.get(name, {})) for name, arm in resolved.items())
    return RunSummary(
        name=run.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=run.seed,
        work_url=work_url,
        command=command,
        resolved=dump_run(run),
        confidence=run.evaluate.confidence if run.evaluate else 0.95,
        codebook=_codebook(run),
        datasets=_datasets(summaries[0]),
        arms=summaries,
        versions=_versions(),
    )


def _codebook(run: RunConfig) -> CodebookRules:
    model = run.laq.model
    return CodebookRules(
        codebook_size=model.codebook_size,
        codes_per_pair=0 if isinstance(model.quantizer, NoQuantizerConfig) else model.codes_per_pair,
        min_perplexity=run.laq.health.min_perplexity,
        quantizer=model.quantizer.kind,
    )


def _find_folders(work_url: str, names: list[str]) -> dict[str, dict[str, str]]:
    """The newest result of each arm and stage, and what those were made from."""
    results = []
    for entry in files.list_names(work_url):
        url = files.join(work_url, entry, "result.json")
        if entry.split("-")[0] in STAGES and files.exists(url):
            results.append((files.join(work_url, entry), files.read_json(url)))
    results.sort(key=lambda item: item[1].get("finished", ""))
    found: dict[str, dict[str, str]] = {}
    for name in names:
        mine = {result["stage"]: (folder, result) for folder, result in results if result["name"] == name}
        for stage in reversed(STAGES):  # a shared stage carries the name of the arm that came first
            if stage in mine:
                needs = {item["digest"] for item in mine[stage][1].get("inputs", {}).values()}
                for folder, result in results:
                    if needs & {item["digest"] for item in result.get("outputs", {}).values()}:
                        mine.setdefault(result["stage"], (folder, result))
        found[name] = {stage: folder for stage, (folder, _) in mine.items()}
    return found


def _arm(name: str, run: RunConfig, arm: RunConfig, folders: Mapping[str, str]) -> ArmSummary:
    is_baseline = name != run.name
    wanted = {
        "laq": arm.pretrain is not None or not is_baseline,
        "label": arm.pretrain is not None or not is_baseline,
        "pretrain": arm.pretrain is not None,
        "finetune": arm.finetune is not None,
        "evaluate": arm.finetune is not None and arm.evaluate is not None,
    }
    return ArmSummary(
        name=name,
        is_baseline=is_baseline,
        differs=tuple(f"{key} = {_short(value)}" for key, value in run.baselines.get(name, {}).items()),
        stages=tuple(
            _stage(name, stage, folders.get(stage), with_pictures=not is_baseline)
            for stage in STAGES
            if wanted.get(stage, True)
        ),
    )


def _stage(arm: str, stage: str, folder: str | None, *, with_pictures: bool) -> StageSummary:
    if folder is None:
        return StageSummary(arm=arm, stage=stage, state="missing")
    url = files.join(folder, "result.json")
    result: dict[str, Any] = files.read_json(url) if files.exists(url) else {}
    history = read_history(folder)
    state: Literal["done", "unfinished", "missing"] = "done" if result else ("unfinished" if history else "missing")
    tracking = result.get("tracking", {})
    return StageSummary(
        arm=arm,
        stage=stage,
        state=state,
        folder=folder,
        seconds=result.get("seconds", 0.0),
        started=result.get("started", ""),
        finished=result.get("finished", ""),
        hardware=result.get("hardware", ""),
        fingerprint=result.get("fingerprint", ""),
        metrics={name: value for name, value in result.get("metrics", {}).items() if value is not None},
        messages=tuple(result.get("messages", ())),
        inputs=_artifacts(result.get("inputs", {})),
        outputs=_artifacts(result.get("outputs", {})),
        history=history,
        pictures=_pictures(folder) if with_pictures else (),
        run_id=tracking.get("run_id") or "",
        run_url=tracking.get("url"),
        registered=_registered(tracking),
    )


def _artifacts(value: Mapping[str, Any]) -> dict[str, ArtifactSummary]:
    return {name: ArtifactSummary(url=item["url"], digest=item["digest"]) for name, item in value.items()}


def _registered(tracking: Mapping[str, Any]) -> str:
    version = tracking.get("version")
    number = version.get("version") if isinstance(version, Mapping) else version
    return f"{tracking['model']} version {number}" if tracking.get("model") and number else ""


def _pictures(folder: str) -> tuple[Picture, ...]:
    """The newest picture of each kind: names that end in a step number are the same picture over time."""
    newest: dict[str, tuple[int, str]] = {}
    for file in files.list_names(files.join(folder, "pictures")):
        name, _, kind = file.rpartition(".")
        if kind != "png":
            continue
        base = name.rstrip("0123456789")
        step = int(name[len(base) :] or 0)
        base = base.rstrip("-_") or name
        newest[base] = max(newest.get(base, (-1, "")), (step, file))
    return tuple(
        Picture(name=base, data_uri=picture_uri(files.read_bytes(files.join(folder, "pictures", file))))
        for base, (_, file) in sorted(newest.items())
    )


def _datasets(main: ArmSummary) -> tuple[DatasetSummary, ...]:
    ingest = main.stage("ingest")
    found = dict(ingest.outputs) if ingest is not None else {}
    for stage in main.stages:  # a run on an existing dataset has no ingest of its own
        found.update({role: item for role, item in stage.inputs.items() if role in ("videos", "robot")})
    summaries = []
    for role, artifact in sorted(found.items(), key=lambda item: item[0] != "videos"):
        if files.exists(files.join(artifact.url, "dataset.json")):
            summaries.append(summarize_dataset(role, artifact.url))
        else:
            logger.warning("dataset role=%s url=%s is gone; the report goes without it", role, artifact.url)
    return tuple(summaries)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")
    return text if len(text) <= 80 else text[:79] + "…"
