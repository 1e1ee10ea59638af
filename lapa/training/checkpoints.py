"""Checkpoints on any fsspec URL.

    URL/step-00001000/model/           what the task saves: a model folder
    URL/step-00001000/training_state/  see lapa/training/state.py
    URL/step-00001000/manifest.json    written last: sizes and digests of all files, the task's state, the resolved run
    URL/last                           name of the newest complete checkpoint

A folder without a manifest is a checkpoint that was cut short: it is never read, and removed.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from lapa import files
from lapa.config.training import FitConfig
from lapa.errors import CheckpointError
from lapa.models.storage import file_digest
from lapa.training.engine import Engine
from lapa.training.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")

MANIFEST = "manifest.json"
LAST = "last"
RETRY_SECONDS = (1.0, 4.0, 15.0)
"""Waits between attempts to reach the storage."""
MAX_FAILED_SAVES = 3
"""Saves that may fail in a row, all attempts counted as one, before training stops."""


class Checkpoints:
    """The checkpoints of one run of one stage. `save` and `restore` are collective."""

    def __init__(
        self, url: str, keep: int, resolved_run: Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.url, self.keep, self.resolved_run = url, keep, dict(resolved_run)
        self.finished: dict[str, Any] | None = None
        """How training ended, when the restored checkpoint is a final one."""
        self._sleep = sleep
        self._saved_at = time.monotonic()
        self._failed_saves = 0

    def is_due(self, step: int, config: FitConfig) -> bool:
        """Whether to save now: by steps, or by the clock. Rank 0's answer is the one to follow."""
        waited = time.monotonic() - self._saved_at
        by_clock = config.checkpoint_seconds is not None and waited >= config.checkpoint_seconds
        return by_clock or step % config.checkpoint_every == 0

    def latest(self) -> str | None:
        """URL of the newest complete checkpoint."""
        complete = self._complete()
        return files.join(self.url, complete[-1]) if complete else None

    def save(self, engine: Engine, task: Task, *, finished: Mapping[str, Any] | None = None) -> str | None:
        """Write a checkpoint of this step; its URL, or None when the storage refused and training may go on.

        CheckpointError, on every rank, when saving failed too often, or when it failed at the end of training.
        """
        self._saved_at = time.monotonic()
        name = f"step-{engine.step:08d}"
        folder = self._working_folder(name) if engine.rank == 0 else Path()
        engine.save_training_state(folder / "training_state")
        with engine.averaged_weights():
            state = engine.full_state()
        problem = ""
        if engine.rank == 0:
            task.save(folder / "model", state)
            problem = self._publish(folder, name, {"step": engine.step, "task": task.state(), "finished": finished})
        problem = engine.broadcast_text(problem)
        self._failed_saves = self._failed_saves + 1 if problem else 0
        if problem and (finished or self._failed_saves > MAX_FAILED_SAVES):
            raise CheckpointError(
                f"Checkpoint {name} could not be written to {self.url}: {problem}. Make the storage writable and "
                "run the same command again; it goes on from the last complete checkpoint."
            )
        if problem:
            logger.warning("event=checkpoint-failed step=%d url=%s problem=%s", engine.step, self.url, problem)
            return None
        return files.join(self.url, name)

    def restore(self, engine: Engine, task: Task) -> int:
        """Continue engine and task from the newest checkpoint whose files are whole; the step, 0 when there is none.

        A damaged checkpoint is passed over with a warning. CheckpointError, on every rank, when
        checkpoints exist and all are damaged.
        """
        with tempfile.TemporaryDirectory(prefix="lapa-restore-") as cache:
            folder, found = self._newest_whole(Path(cache)) if engine.rank == 0 else (Path(), {})
            found = json.loads(engine.broadcast_text(json.dumps(found)))
            if "problem" in found:
                raise CheckpointError(found["problem"])
            if not found:
                return 0
            engine.load_training_state(folder / "training_state")
        self.finished = found["finished"]
        task.restore(found["task"])
        logger.info("event=resumed step=%d url=%s", engine.step, self.url)
        return engine.step

    def _newest_whole(self, cache: Path) -> tuple[Path, dict[str, Any]]:
        """A local copy of the newest undamaged checkpoint, and its manifest; `problem` instead if none is."""
        self._remove_incomplete()
        names = self._complete()
        damaged_names: list[str] = []
        for name in reversed(names):
            url = files.join(self.url, name)
            folder = self._retry(partial(files.local_copy, url, cache))
            manifest = files.read_json(str(folder / MANIFEST))
            damaged = damaged_files(folder, manifest)
            if not damaged:
                for useless in damaged_names:
                    self._remove(useless)
                return folder, {"task": manifest.get("task", {}), "finished": manifest["finished"]}
            logger.warning("event=checkpoint-damaged url=%s files=%s next=earlier-checkpoint", url, ",".join(damaged))
            damaged_names.append(name)
        if names:
            problem = (
                f"All {len(names)} checkpoints in {self.url} are damaged: their files do not match their manifests. "
                "Restore them from a copy, or remove the folder to start fresh."
            )
            return Path(), {"problem": problem}
        return Path(), {}

    def _working_folder(self, name: str) -> Path:
        """Where rank 0 writes: in place on a local disk, beside the upload otherwise."""
        if self._is_local():
            folder = Path(url_to_fs(self.url)[1]) / name
            if folder.exists():
                # The manifest goes first, so that a kill in between leaves nothing that looks complete.
                (folder / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(folder)
        else:
            folder = Path(tempfile.mkdtemp(prefix="lapa-checkpoint-")) / name
        folder.mkdir(parents=True)
        return folder

    def _publish(self, folder: Path, name: str, facts: Mapping[str, Any]) -> str:
        """Complete the folder and make it the last one; what went wrong, or nothing."""
        manifest = {"version": 1, **facts, "files": describe(folder), "run": self.resolved_run}
        try:
            files.write_json(str(folder / MANIFEST), manifest)
            if not self._is_local():
                self._retry(lambda: files.upload(folder, files.join(self.url, name), last=MANIFEST))
            self._retry(lambda: files.write_bytes(files.join(self.url, LAST), name.encode() + b"\n"))
            for old in self._complete()[: -self.keep]:
                self._remove(old)
        # Storage clients raise their own errors; whatever it was, the run should outlive it.
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if not self._is_local():
                shutil.rmtree(folder.parent, ignore_errors=True)
        return ""

    def _remove(self, name: str) -> None:
        url = files.join(self.url, name)
        files.remove(files.join(url, MANIFEST))
        files.remove(url)

    def _remove_incomplete(self) -> None:
        complete = set(self._complete())
        for name in files.list_names(self.url):
            if name.startswith("step-") and name not in complete:
                logger.warning("event=incomplete-checkpoint-removed url=%s", files.join(self.url, name))
                self._remove(name)

    def _complete(self) -> list[str]:
        """Names of complete checkpoints, oldest first."""
        names = self._retry(lambda: files.list_names(self.url))
        steps = [name for name in names if name.startswith("step-")]
        return [name for name in steps if files.exists(files.join(self.url, name, MANIFEST))]

    def _retry(self, action: Callable[[], T]) -> T:
        """Storage fails for seconds and works again; the last failure is the caller's."""
        for seconds in RETRY_SECONDS:
            try:
                return action()
            except OSError as error:
                logger.warning("event=storage-retry url=%s wait_seconds=%g error=%s", self.url, seconds, error)
                self._sleep(seconds)
        return action()

    def _is_local(self) -> bool:
        protocol = url_to_fs(self.url)[0].protocol
        return "file" in (protocol if isinstance(protocol, tuple) else (protocol,))


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def damaged_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files that are missing or are not what the manifest says."""
    wanted, found = manifest["files"], describe(folder)
    return sorted(name for name, expected in wanted.items() if found.get(name) != expected)
