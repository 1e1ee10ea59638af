"""Checkpoints on any fsspec URL, written while training goes on.

    URL/step-00001000/training_state/  every rank's part, see state_files.py
    URL/step-00001000/model/           what the task saves: a model folder
    URL/step-00001000/manifest.json    written last: sizes and digests of all files, the task's state, the resolved run
    URL/last                           name of the newest complete checkpoint

Training stops for the copy to host memory. Each rank then writes its own part in a thread; when all have, rank 0 puts
the model folder together from the parts, tensor by tensor, and writes the manifest, in a thread too. Threads never
talk to other ranks: how far they are is part of the vote that the loop holds after every update. One checkpoint at a
time is on its way; the next one waits for it, and says so.

A folder without a manifest is a checkpoint that was cut short: it is never read, and removed.
"""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lapa import files
from lapa.config.training import FitConfig
from lapa.errors import CheckpointError
from lapa.training.background import Background
from lapa.training.engine import Engine
from lapa.training.state_files import SavedModel, Snapshot, StateReader, describe_file, join_indices, write_parts
from lapa.training.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")

MANIFEST = "manifest.json"
LAST = "last"
STATE_FOLDER = "training_state"
RETRY_SECONDS = (1.0, 4.0, 15.0)
"""Waits between attempts to reach the storage."""
MAX_FAILED_SAVES = 3
"""Saves that may fail in a row, all attempts counted as one, before training stops."""


@dataclass
class OnItsWay:
    """A checkpoint that is being written. The same on every rank, but for the work."""

    name: str
    step: int
    snapshot: Snapshot | None
    """This rank's part, until it is written."""
    facts: dict[str, Any]
    """For the manifest."""
    save_model: Callable[[Path, Mapping[str, Any]], None] | None
    work: Background | None = None
    """What this rank does for it now; None on a rank that waits for rank 0."""
    is_committing: bool = False


class Checkpoints:
    """The checkpoints of one run of one stage. `save`, `heed`, `flush` and `restore` are collective."""

    def __init__(
        self, url: str, keep: int, resolved_run: Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.url, self.keep, self.resolved_run = url, keep, dict(resolved_run)
        self.finished: dict[str, Any] | None = None
        """How training ended, when the restored checkpoint is a final one."""
        self.failed_saves = 0
        """In a row."""
        self.newest: str | None = None
        """URL of the newest checkpoint that this process knows to be complete. The same on every rank."""
        self._sleep = sleep
        self._saved_at = time.monotonic()
        self._found: list[str] = []
        """Complete checkpoints when this process started; rank 0 knows."""
        self._on_its_way: OnItsWay | None = None
        self._news: list[tuple[int, str]] = []

    def is_due(self, step: int, config: FitConfig) -> bool:
        """Whether to save now: by steps, or by the clock. Rank 0's answer is the one to follow."""
        waited = time.monotonic() - self._saved_at
        by_clock = config.checkpoint_seconds is not None and waited >= config.checkpoint_seconds
        return by_clock or step % config.checkpoint_every == 0

    def latest(self) -> str | None:
        """URL of the newest complete checkpoint."""
        complete = self._complete()
        return files.join(self.url, complete[-1]) if complete else None

    def save(
        self, engine: Engine, task: Task, *, finished: Mapping[str, Any] | None = None, with_model: bool = True
    ) -> None:
        """Copy this step to host memory, and let threads write it; `flush` waits for them.

        Without a model folder it can be resumed from all the same. CheckpointError as in `heed`.
        """
        started = time.monotonic()
        if before := self._on_its_way:
            logger.info("event=checkpoint-waits step=%d for_step=%d", engine.step, before.step)
            self.flush(engine)
        waited = time.monotonic() - started
        self._saved_at = time.monotonic()
        name = step_name(engine.step)
        if engine.rank == 0 and with_model:
            task.prepare_save()
        self._make_way(engine, name)
        snapshot = engine.snapshot()
        self._on_its_way = OnItsWay(
            name=name,
            step=engine.step,
            snapshot=snapshot,
            facts={"step": engine.step, "task": task.state(), "finished": finished},
            save_model=task.save if with_model else None,
            work=Background("checkpoint", partial(self._write_part, name, snapshot)),
        )
        logger.info(
            "event=checkpoint-copied step=%d waited_seconds=%.3g copy_seconds=%.3g bytes=%d",
            engine.step, waited, time.monotonic() - started - waited, snapshot.num_bytes,
        )  # fmt: skip

    def votes(self) -> tuple[bool, bool]:
        """Whether this rank is still at work for a checkpoint, and whether that work failed."""
        work = self._on_its_way.work if self._on_its_way else None
        if work is None:
            return False, False
        # Asked in this order: work that has ended can fail no more.
        is_running = work.is_running
        return is_running, bool(work.problem)

    def heed(self, engine: Engine, *, is_busy: bool, has_failed: bool) -> None:
        """Go on with the checkpoint on its way, given what any rank voted.

        CheckpointError, on every rank, when saving failed too often, or when it failed at the end of training.
        """
        way = self._on_its_way
        if way is None or is_busy:
            return
        if has_failed:
            self._on_its_way = None
            self._give_up(engine, way)
        elif not way.is_committing:
            assert way.snapshot is not None, "it is kept until all parts are written"
            commit = partial(self._commit, way, way.snapshot.header, way.snapshot.world_size)
            way.snapshot, way.is_committing = None, True
            way.work = Background("checkpoint", commit) if engine.rank == 0 else None
        else:
            self._on_its_way, self.failed_saves = None, 0
            self.newest = files.join(self.url, way.name)
            self._news.append((way.step, self.newest))

    def flush(self, engine: Engine) -> None:
        """Wait until nothing is on its way. CheckpointError as in `heed`."""
        while self._on_its_way:
            if self._on_its_way.work:
                self._on_its_way.work.wait()
            is_busy, has_failed = engine.any_of(*self.votes())
            self.heed(engine, is_busy=is_busy, has_failed=has_failed)

    def news(self) -> list[tuple[int, str]]:
        """Steps that were completed since the last call, and their URLs."""
        news, self._news = self._news, []
        return news

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
            engine.load_training_state(folder / STATE_FOLDER)
        self.finished = found["finished"]
        self.newest = files.join(self.url, step_name(engine.step))
        task.restore(found["task"])
        logger.info("event=resumed step=%d url=%s", engine.step, self.url)
        return engine.step

    def _newest_whole(self, cache: Path) -> tuple[Path, dict[str, Any]]:
        """A local copy of the newest undamaged checkpoint, and its manifest; `problem` instead if none is."""
        self._remove_incomplete()
        names = self._found = self._complete()
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

    def _make_way(self, engine: Engine, name: str) -> None:
        """Remove a checkpoint of the same step, its manifest first: nothing half new must look complete. Collective:
        nobody writes before rank 0 has removed what was there."""
        problem = ""
        if engine.rank == 0 and name in self._found:
            try:
                self._retry(lambda: self._remove(name))
            except OSError as error:
                problem = f"{type(error).__name__}: {error}"
        if problem := engine.broadcast_text(problem):
            raise CheckpointError(
                f"{name} in {self.url} cannot be replaced: {problem}. Make the storage writable, or remove that folder."
            )

    def _write_part(self, name: str, snapshot: Snapshot) -> None:
        """This rank's files: in place on a local disk, else one at a time on their way to the store."""
        target = files.join(self.url, name, STATE_FOLDER)
        if local := files.local_path(target):
            for _ in write_parts(snapshot, local):
                pass
            return
        with tempfile.TemporaryDirectory(prefix="lapa-checkpoint-") as scratch:
            for path in write_parts(snapshot, Path(scratch)):
                self._retry(lambda: files.upload(Path(scratch), target))
                path.unlink()

    def _commit(self, way: OnItsWay, header: Mapping[str, Any], world_size: int) -> None:
        """On rank 0, when all parts are written: the model, the manifest, and what is kept of older ones."""
        folder = files.join(self.url, way.name)
        state = files.join(folder, STATE_FOLDER)
        read = self._retrying(files.read_json)
        joined = self._retry(lambda: join_indices(state, header, world_size, read))
        described = {f"{STATE_FOLDER}/{name}": facts for name, facts in joined.items()}
        if way.save_model:
            described |= self._write_model(files.join(folder, "model"), state, way.save_model)
        manifest = {"version": 2, **way.facts, "files": described, "run": self.resolved_run}
        self._retry(lambda: files.write_json(files.join(folder, MANIFEST), manifest))
        self._retry(lambda: files.write_bytes(files.join(self.url, LAST), way.name.encode() + b"\n"))
        for old in self._complete()[: -self.keep]:
            self._retry(partial(self._remove, old))
        self._remove_incomplete()  # of earlier steps, whose saving failed

    def _write_model(
        self, url: str, state: str, save_model: Callable[[Path, Mapping[str, Any]], None]
    ) -> dict[str, dict[str, Any]]:
        """The model folder, from the parts that lie in the store; sizes and digests of its files."""
        weights = SavedModel(self._retry(lambda: StateReader(state, retry=self._retry)))
        with tempfile.TemporaryDirectory(prefix="lapa-model-") as scratch:
            folder = files.local_path(url) or Path(scratch)
            save_model(folder, weights)
            described = {f"model/{name}": facts for name, facts in describe(folder).items()}
            if not files.local_path(url):
                self._retry(lambda: files.upload(folder, url, last="config.json"))
        return described

    def _give_up(self, engine: Engine, way: OnItsWay) -> None:
        """Count a checkpoint that could not be written; CheckpointError when that was one too many."""
        own = way.work.problem if way.work else ""
        if own:
            logger.warning("event=checkpoint-failed step=%d url=%s problem=%s", way.step, self.url, own)
        problem = engine.broadcast_text(own) or "see the log of the rank that failed"
        self.failed_saves += 1
        if way.facts["finished"] or self.failed_saves > MAX_FAILED_SAVES:
            raise CheckpointError(
                f"Checkpoint {way.name} could not be written to {self.url}: {problem}. Make the storage writable and "
                "run the same command again; it goes on from the last complete checkpoint."
            )

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

    def _retrying(self, read: Callable[[str], T]) -> Callable[[str], T]:
        return lambda url: self._retry(lambda: read(url))


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): describe_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def damaged_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files that are missing or are not what the manifest says."""
    wanted, found = manifest["files"], describe(folder)
    return sorted(name for name, expected in wanted.items() if found.get(name) != expected)
