"""What every stage program does alike: find its inputs and its folder, track itself, leave a result."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lapa import files
from lapa.config.load import dump_run
from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.errors import RESTART_EXIT_CODE, ConfigError, TrackingError
from lapa.stages.agreement import check_agreement
from lapa.stages.plan import fingerprint, inputs_of, stage_folder, stage_settings
from lapa.stages.results import Artifact, StageResult, write_result
from lapa.tracking.code import code_tags
from lapa.tracking.machine import machine_words
from lapa.tracking.progress import report_progress, report_resumption
from lapa.tracking.registry import Registry, require_manifest
from lapa.tracking.tracker import Tracker, open_tracker
from lapa.training.signals import SigtermInterrupts

logger = logging.getLogger(__name__)

ONE_PROCESS_STAGES: tuple[StageName, ...] = ("ingest", "evaluate")
"""Stages that do not share their work over ranks."""


@dataclass(kw_only=True)
class Stage:
    """One run of one stage program, on one rank."""

    name: StageName
    run: RunConfig
    folder: str
    fingerprint: str
    inputs: Mapping[str, Artifact]
    tracker: Tracker
    rank: int
    started: float = field(default_factory=time.time)
    remarks: list[str] = field(default_factory=list)
    """Said in the result after the stage's own verdicts."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def progress(self, phase: str, **numbers: Any) -> None:
        if self.is_main:
            report_progress(self.name, phase, **numbers)

    def resumed(self, words: str) -> None:
        """Say what an earlier start had made."""
        if self.is_main:
            report_resumption(self.name, words)

    def finish(
        self,
        *,
        outputs: Mapping[str, Artifact],
        metrics: Mapping[str, float],
        messages: Sequence[str] = (),
        registered: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the stage's result: from here on it is complete."""
        if not self.is_main:
            return
        messages = [*messages, *self.remarks]
        for message in messages:
            logger.info("stage=%s verdict=%r", self.name, message)
        write_result(
            StageResult(
                stage=self.name,
                name=self.run.name,
                fingerprint=self.fingerprint,
                folder=self.folder,
                inputs=dict(self.inputs),
                outputs=dict(outputs),
                metrics=dict(metrics),
                messages=tuple(messages),
                seconds=time.time() - self.started,
                started=_iso(self.started),
                finished=_iso(time.time()),
                hardware=machine_words(),
                code=code_tags(),
                tracking={"run_id": self.tracker.run_id, "url": self.tracker.url, **(registered or {})},
            )
        )

    def register(
        self,
        model: str,
        artifact: Artifact,
        metrics: Mapping[str, float],
        *,
        verify: Callable[[str], object] = require_manifest,
        evidence: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Register what the stage made, with what it was made from; nothing happens with tracking off.

        `verify` reads the files first; `evidence` are tags that take the place of older ones, as metrics do not.
        """
        if not self.is_main or not self.run.tracking.enabled:
            return {}
        tags = {
            "lapa.stage": self.name,
            "lapa.run": self.run.name,
            "lapa.fingerprint": self.fingerprint,
            **code_tags(),
            **{f"lapa.metric.{key.replace('/', '.')}": f"{value:.6g}" for key, value in metrics.items()},
        }
        made_from = {name: source.model_dump() for name, source in self.inputs.items()}
        try:
            registry = Registry.open(self.run.tracking, store=self.run.work_url)
            version = registry.register(
                model,
                artifact.url,
                digest=artifact.digest,
                inputs=made_from,
                run_id=self.tracker.run_id,
                tags=tags,
                verify=verify,
            )
            registry.set_tags(model, version.version, evidence or {})
        except TrackingError as error:
            # Training is not lost to a registry that is away; the model is in the stage's folder all the same.
            logger.warning("event=not-registered model=%s url=%s why=%s", model, artifact.url, error)
            return {"model": model, "version": None}
        return {"model": model, "version": version.version}


@contextmanager
def open_stage(run: RunConfig, name: StageName) -> Iterator[Stage]:
    """Inputs resolved, MLflow run open (continued after a restart), and closed with how it ended.

    Interrupted (exit code 75) on SIGTERM wherever the stage is; training saves its step first.
    """
    _refuse_ranks(name)
    with SigtermInterrupts() as signals:
        stage = _opened(run, name)
        tracker = stage.tracker
        try:
            tracker.log_text(dump_run(run), "run.yaml")
            tracker.log_params(_flat(stage_settings(run, name)))
            tracker.set_tags(code_tags())
            for role, artifact in stage.inputs.items():
                tracker.log_input(role, artifact.url, artifact.digest)
            yield stage
        except SystemExit as stop:
            signals.is_stopping = True
            tracker.finish("KILLED" if stop.code == RESTART_EXIT_CODE else "FAILED")
            raise
        except BaseException:
            tracker.finish("FAILED")
            raise
        tracker.finish("FINISHED")
        stage.progress("done")


def _opened(run: RunConfig, name: StageName) -> Stage:
    rank = int(os.environ.get("RANK", "0"))
    folder = stage_folder(run, name)
    key = fingerprint(run, name)
    inputs = inputs_of(run, name)
    check_agreement(run)
    tracker = open_tracker(
        run.tracking,
        store=run.work_url,
        run_name=run.name,
        stage=name,
        tags={"lapa.fingerprint": key},
        journal=local_folder(folder) / "tracking",
        folder=folder,
        rank=rank,
    )
    stage = Stage(name=name, run=run, folder=folder, fingerprint=key, inputs=inputs, tracker=tracker, rank=rank)
    stage.progress("start")
    return stage


def _refuse_ranks(name: StageName) -> None:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1 and name in ONE_PROCESS_STAGES:
        raise ConfigError(
            f"Stage '{name}' runs in one process, this launch has {ranks} ranks (WORLD_SIZE). Start it as "
            f"`python -m lapa {name}`, without torchrun; laq, label, pretrain and finetune share their work over ranks."
        )


def local_folder(url: str) -> Path:
    """The folder itself when it is local, else a place on this machine that belongs to it."""
    return files.local_path(url) or Path(tempfile.gettempdir()) / "lapa" / files.digest(url)[:16]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b` -> value, the way `--set` names them."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
