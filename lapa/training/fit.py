"""The one training loop; what differs between stages is a task."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lapa.config.training import FitConfig
from lapa.errors import TrainingError
from lapa.models.randomness import drawing_for_samples
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import Engine
from lapa.training.hooks import Hook, Hooks
from lapa.training.micro_batches import micro_batches
from lapa.training.profiling import phase
from lapa.training.seeding import mix
from lapa.training.signals import Interrupted, StopSignals
from lapa.training.task import Task
from lapa.training.watch import Watch
from lapa.types.batches import Batch

__all__ = ["FitResult", "Task", "fit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How training ended. The same on every rank."""

    step: int
    metrics: dict[str, float]
    """Of the last validation."""
    stopped: str | None = None
    """Why the task stopped before the last step; None when it did not."""


def fit(
    task: Task,
    engine: Engine,
    batches: Callable[[int], Iterator[Batch]],
    validation: Callable[[], Iterable[Batch]],
    config: FitConfig,
    checkpoints: Checkpoints,
    hooks: Sequence[Hook] = (),
    *,
    seed: int,
) -> FitResult:
    """Train to the last step, from the run's own newest checkpoint when there is one.

    `batches(step)` yields this rank's share of each global batch from that step on; `validation()` the
    held-out batches. Interrupted (exit code 75) after SIGTERM or SIGINT, the step saved; LossNotFinite
    when the loss or the gradient is no number.
    """
    told = Hooks(hooks)
    if step := checkpoints.restore(engine, task):
        told.after_resume(step, config.steps)
    result = finished_before(checkpoints, config)
    if result is None and engine.step >= config.steps:
        return untrained(task, engine, validation, checkpoints, told, seed=seed)
    stream, watch = batches(engine.step), Watch(engine, config, checkpoints)
    with StopSignals() as signals, told.told_of_failure(), flushed_on_failure(checkpoints, engine):
        while result is None:
            update(task, engine, stream, watch, seed=seed)
            told.after_update(engine.step)
            done = engine.step >= config.steps
            if done or engine.step % config.log_every == 0:
                with phase("logging"):
                    told.after_step(watch.report())
            if done or engine.step % config.validate_every == 0:
                # A broken model's metrics would only hide what broke it.
                watch.check_finite()
                with phase("validation"):
                    result = validate(task, engine, validation, told, seed=seed, done=done)
            interrupted, save, is_busy, has_failed = engine.any_of(
                signals.received is not None,
                engine.rank == 0 and checkpoints.is_due(engine.step, config),
                *checkpoints.votes(),
            )
            checkpoints.heed(engine, is_busy=is_busy, has_failed=has_failed)
            if result or interrupted or save:
                watch.check_finite()
                # Who is asked to go needs no model folder to go on from, and has little time.
                with_model = result is not None or not interrupted
                with phase("checkpoint"):
                    checkpoints.save(engine, task, finished=vars(result) if result else None, with_model=with_model)
            if result or interrupted:
                checkpoints.flush(engine)
            tell_of_checkpoints(checkpoints, told)
            if interrupted:
                raise Interrupted(engine.step)
    return result


def untrained(
    task: Task,
    engine: Engine,
    validation: Callable[[], Iterable[Batch]],
    checkpoints: Checkpoints,
    told: Hook,
    *,
    seed: int,
) -> FitResult:
    """With 0 steps: judge what training would start from, and keep it."""
    result = validate(task, engine, validation, told, seed=seed, done=True)
    assert result is not None, "validation ends training when it is told that training is done"
    checkpoints.save(engine, task, finished=vars(result))
    checkpoints.flush(engine)
    tell_of_checkpoints(checkpoints, told)
    return result


def tell_of_checkpoints(checkpoints: Checkpoints, told: Hook) -> None:
    """Checkpoints are complete some steps after they were taken."""
    for step, url in checkpoints.news():
        told.after_checkpoint(step, url)


@contextmanager
def flushed_on_failure(checkpoints: Checkpoints, engine: Engine) -> Iterator[None]:
    """A TrainingError, which every rank meets alike, leaves the checkpoint on its way complete."""
    try:
        yield
    except TrainingError:
        checkpoints.flush(engine)
        raise


def finished_before(checkpoints: Checkpoints, config: FitConfig) -> FitResult | None:
    """The result of a training that ended already; None when there are more steps to do, e.g. newly asked for."""
    if checkpoints.finished is None:
        return None
    result = FitResult(**checkpoints.finished)
    return result if result.stopped or result.step >= config.steps else None


def update(task: Task, engine: Engine, stream: Iterator[Batch], watch: Watch, *, seed: int) -> None:
    """One optimizer update with the next batch."""
    batch = watch.wait_for(stream)
    losses = accumulate(task, engine, batch, watch.config.micro_batch_size, seed=mix(seed, engine.step))
    with phase("optimizer"):
        gradient_norm = engine.update()
        numbers = task.after_update(engine)
    watch.note(batch, losses, gradient_norm, numbers)


def accumulate(
    task: Task, engine: Engine, batch: Batch, micro_batch_size: int | None, *, seed: int
) -> dict[str, Tensor]:
    """Gradients of the mean loss over a batch, a micro batch at a time; returns the detached mean losses.

    What is drawn follows `seed` and the samples' places in the global batch, not ranks and micro batches.
    """
    sums: dict[str, Tensor] = {}
    is_cut = micro_batch_size is not None and micro_batch_size < batch.size
    taken = micro_batches(batch, micro_batch_size, task.lengths(engine, batch) if is_cut else None)
    pieces = [micro.batch for micro in taken]
    torch.manual_seed(mix(seed, "whole batch"))
    task.before_update(engine, pieces)
    start, total = engine.rank * batch.size, engine.world_size * batch.size
    first, shares = start, weights(task, engine, pieces)
    for number, (micro, share) in enumerate(zip(taken, shares, strict=True), start=1):
        torch.manual_seed(mix(seed, "piece", first))
        places = [start + place for place in micro.places]
        with drawing_for_samples(mix(seed, "samples"), places=places, total=total):
            with phase("to device"):
                piece = micro.batch.to(engine.device)
            with phase("forward"):
                losses = task.losses(engine, piece)
            with phase("backward"):
                engine.backward(losses["total"] * share, last=number == len(pieces))
        first += piece.size
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach() * share
    torch.manual_seed(mix(seed, "after the batch"))
    return sums


def weights(task: Task, engine: Engine, pieces: Sequence[Batch]) -> list[float]:
    """Share of each micro batch in this rank's mean; over all ranks they add up to the number of ranks."""
    counts = [task.weigh(piece) for piece in pieces]
    known = [count for count in counts if count is not None]
    if len(known) < len(pieces):
        sizes = [piece.size for piece in pieces]
        return [size / sum(sizes) for size in sizes]
    total = engine.sum_of(sum(known))
    return [count * engine.world_size / max(total, 1.0) for count in known]


def validate(
    task: Task,
    engine: Engine,
    validation: Callable[[], Iterable[Batch]],
    told: Hook,
    *,
    seed: int,
    done: bool,
) -> FitResult | None:
    """Metrics of the held-out batches; a result when training ends here."""
    torch.manual_seed(mix(seed, "validation"))
    engine.model.eval()
    with torch.no_grad(), engine.averaged_weights():
        metrics = task.validate(engine, held_out(engine, validation(), seed=mix(seed, "validation samples")))
    engine.model.train()
    # Rank 0's word counts: ranks that decide differently would wait for each other forever.
    names = sorted(metrics)
    values = engine.broadcast(torch.tensor([metrics[name] for name in names], dtype=torch.float64)).tolist()
    metrics = dict(zip(names, values, strict=True))
    told.after_validation(engine.step, metrics)
    stopped = task.should_stop(metrics)
    if stopped:
        logger.info("event=stopped-early step=%d reason=%s", engine.step, stopped)
    return FitResult(step=engine.step, metrics=metrics, stopped=stopped) if done or stopped else None


def held_out(engine: Engine, batches: Iterable[Batch], *, seed: int) -> Iterator[Batch]:
    """This rank's share of the held-out batches; what a model draws for a sample is the same on any rank."""
    for number, batch in enumerate(batches):
        first, total = engine.rank * batch.size, engine.world_size * batch.size
        with drawing_for_samples(mix(seed, number), places=range(first, first + batch.size), total=total):
            yield batch.to(engine.device)
