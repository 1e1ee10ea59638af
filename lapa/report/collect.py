"""Reads a run's stage folders and datasets into a `RunSummary`. What is missing is shown as missing."""

import importlib.metadata
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from lapa import files
from lapa.config.load import arms, dump_run
from lapa.config.run import RunConfig
from lapa.errors import LapaError
from lapa.report.datasets import summarize_dataset
from lapa.report.outcomes import read_outcomes
from lapa.report.pictures import picture_uri
from lapa.report.settings import nearest_preset, short
from lapa.report.summary import (
    AnalysisSummary,
    ArmSummary,
    ArtifactSummary,
    DatasetSummary,
    Picture,
    RunSummary,
    StageSummary,
)
from lapa.tracking.stage_log import read_history

logger = logging.getLogger(__name__)

PACKAGES = ("lapa", "torch", "deepspeed", "transformers", "mlflow", "av")

StageFolders = Mapping[str, Mapping[str, str | None]]
"""Arm -> the stages it consists of, in order -> URL of the stage's folder, None while it has no place yet."""


def collect_run(
    run: RunConfig,
    folders: StageFolders,
    *,
    analysis: AnalysisSummary | None = None,
    command: str = "lapactl run run.yaml",
) -> RunSummary:
    """Everything a report shows of a run and its baselines.

    ``folders`` says where each arm's stages are, as the stage plan knows; baselines share folders with the
    run where they share stages. ``command`` reproduces the run from its resolved file.
    """
    summaries = tuple(_arm(name, run, arm, folders.get(name, {})) for name, arm in arms(run).items())
    return RunSummary(
        name=run.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=run,
        work_url=run.work_url,
        command=command,
        resolved=dump_run(run),
        differences=nearest_preset(run),
        datasets=_datasets(summaries[0]),
        arms=summaries,
        analysis=analysis or AnalysisSummary(),
        versions=_versions(),
    )


def _arm(name: str, run: RunConfig, arm: RunConfig, folders: Mapping[str, str | None]) -> ArmSummary:
    is_baseline = name != run.name
    evaluated = folders.get("evaluate")
    return ArmSummary(
        name=name,
        is_baseline=is_baseline,
        config=arm,
        differs=tuple(f"{key} = {short(value)}" for key, value in run.baselines.get(name, {}).items()),
        stages=tuple(_stage(name, stage, url, with_pictures=not is_baseline) for stage, url in folders.items()),
        outcomes=read_outcomes(evaluated) if evaluated else (),
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
        inputs=_artifacts(result.get("inputs", {}), result.get("folder", folder), folder),
        outputs=_artifacts(result.get("outputs", {}), result.get("folder", folder), folder),
        history=history,
        pictures=_pictures(folder) if with_pictures else (),
        run_id=tracking.get("run_id") or "",
        run_url=tracking.get("url"),
        registered=_registered(tracking),
    )


def _artifacts(value: Mapping[str, Any], written: str, found: str) -> dict[str, ArtifactSummary]:
    """Artifacts where they are now: the work folder may have been moved, or be named from another place."""
    before, now = (url.rstrip("/").rpartition("/")[0] + "/" for url in (written, found))
    return {
        name: ArtifactSummary(
            url=now + item["url"].removeprefix(before) if item["url"].startswith(before) else item["url"],
            digest=item["digest"],
        )
        for name, item in value.items()
    }


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
        try:
            summaries.append(summarize_dataset(role, artifact.url))
        except LapaError as error:
            logger.warning("event=dataset-left-out role=%s url=%s why=%s", role, artifact.url, error)
    return tuple(summaries)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
