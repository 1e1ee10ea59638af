"""What a stage will need, before anything is spent: memory, time, storage, and what would fit where it does not."""

from collections.abc import Iterator
from dataclasses import dataclass

from lapa.config.run import RunConfig
from lapa.config.training import DeepSpeedEngineConfig, EngineConfig, FitConfig
from lapa.errors import ConfigError
from lapa.estimate.footprint import EstimatedStage, Footprint, Work
from lapa.estimate.memory import Layout, Memory, inference_memory, layout_of, training_memory, usable
from lapa.estimate.speed import ASSUMED_MFU, Machines, StepTime, compute_time, demand_of, step_time


@dataclass(frozen=True, kw_only=True)
class Share:
    """One rank's part of a global batch."""

    samples: int
    micro_batch: int

    @property
    def micro_batches(self) -> int:
        return -(-self.samples // self.micro_batch)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings under which the stage would fit."""

    zero_stage: int | None
    """None for plain torch."""
    micro_batch: int
    is_checkpointed: bool
    needed_bytes: float
    step_seconds: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    stage: str
    machines: Machines
    precision: str
    mfu: float
    parameters: int
    trainable: int
    share: Share
    layout: Layout
    is_checkpointed: bool
    memory: Memory
    fits: bool
    step: StepTime
    steps: int | None
    """Optimizer updates; forward passes over the dataset where nothing is trained, if that is made."""
    batch: int
    storage_bytes_per_second: float
    """That storage must deliver to all nodes together."""
    checkpoint_bytes: int | None
    better: Choice | None
    """The fastest that fits, where what the run says does not."""

    @property
    def seconds(self) -> float | None:
        return None if self.steps is None else self.steps * self.step.total

    @property
    def gpu_hours(self) -> float | None:
        return cost(self.seconds, self.machines.ranks)


def share_of(fit: FitConfig, ranks: int) -> Share:
    """Of a rank. ConfigError where there are more ranks than samples."""
    if fit.batch_size < ranks:
        raise ConfigError(
            f"{ranks} GPUs share batches of {fit.batch_size} samples, less than one each. Ask for fewer, or set "
            "fit.batch_size higher"
        )
    samples = fit.batch_size // ranks
    return Share(samples=samples, micro_batch=min(fit.micro_batch_size or samples, samples))


def cost(seconds: float | None, gpus: int) -> float | None:
    """GPU-hours."""
    return None if seconds is None else seconds * gpus / 3600


def refuse_impossible(run: RunConfig, stage: EstimatedStage, machines: Machines) -> None:
    """What `predict` would refuse, told before a model is counted. ConfigError, also for a stage that the run lacks."""
    if stage == "label":
        return
    _refuse_one_process(run.engine, machines)
    share_of(_fit(run, stage), machines.ranks)


def predict(run: RunConfig, footprint: Footprint, machines: Machines, *, mfu: float | None = None) -> Prediction:
    """Of one stage on some machines. ConfigError where ranks and batch do not fit, or an engine has one process."""
    if footprint.stage == "label":
        return _labelling(run, footprint, machines, mfu=mfu)
    fit = _fit(run, footprint.stage)
    _refuse_one_process(run.engine, machines)
    share = share_of(fit, machines.ranks)
    layout = _layout(run.engine, fit, machines, share)
    work = footprint.way(is_checkpointed=footprint.is_checkpointed)
    memory = training_memory(footprint, work, layout)
    fits = _fits(memory, machines)
    step = step_time(footprint, work, layout, machines, precision=fit.precision, mfu=mfu)
    return Prediction(
        stage=footprint.stage,
        machines=machines,
        precision=fit.precision,
        mfu=mfu or ASSUMED_MFU[fit.precision],
        parameters=footprint.numel,
        trainable=footprint.trainable,
        share=share,
        layout=layout,
        is_checkpointed=footprint.is_checkpointed and footprint.checkpointed is not None,
        memory=memory,
        fits=fits,
        step=step,
        steps=fit.steps,
        batch=fit.batch_size,
        storage_bytes_per_second=fit.batch_size / step.total * footprint.stored_bytes,
        checkpoint_bytes=4 * footprint.numel + (12 if fit.ema_decay else 8) * footprint.trainable,
        better=None if fits else _best(run, footprint, fit, machines, share, mfu=mfu),
    )


def _labelling(run: RunConfig, footprint: Footprint, machines: Machines, *, mfu: float | None) -> Prediction:
    """Ranks share shards, and talk to nobody."""
    batch = run.label.batch_size
    layout = Layout(ranks=machines.ranks, micro_batch=batch)
    computing = compute_time(demand_of(footprint.work, micro_batch=batch), machines.gpu, precision="fp32", mfu=mfu)
    step = StepTime(computing=computing, communication=0.0, optimizer=0.0)
    memory = inference_memory(footprint, batch)
    everywhere = batch * machines.ranks
    return Prediction(
        stage="label",
        machines=machines,
        precision="fp32",
        mfu=mfu or ASSUMED_MFU["fp32"],
        parameters=footprint.numel,
        trainable=0,
        share=Share(samples=batch, micro_batch=batch),
        layout=layout,
        is_checkpointed=False,
        memory=memory,
        fits=_fits(memory, machines),
        step=step,
        steps=None if footprint.samples is None else -(-footprint.samples // everywhere),
        batch=everywhere,
        storage_bytes_per_second=everywhere / step.total * footprint.stored_bytes,
        checkpoint_bytes=None,
        better=None,
    )


def _fit(run: RunConfig, stage: EstimatedStage) -> FitConfig:
    """How a stage trains. ConfigError for one that the run lacks."""
    if stage == "laq" and run.laq.labeller == "inverse-dynamics":
        return run.laq.inverse_dynamics.fit
    fit = getattr(getattr(run, stage), "fit", None)
    if not isinstance(fit, FitConfig):
        raise ConfigError(f"the run '{run.name}' has no stage '{stage}': it is null. Set it, or choose another")
    return fit


def _refuse_one_process(engine: EngineConfig, machines: Machines) -> None:
    if machines.ranks > 1 and not isinstance(engine, DeepSpeedEngineConfig):
        raise ConfigError(
            f"{machines.ranks} GPUs need an engine for several processes, and engine.kind is '{engine.kind}'. "
            "Add --set engine.kind=deepspeed"
        )


def _layout(engine: EngineConfig, fit: FitConfig, machines: Machines, share: Share) -> Layout:
    return layout_of(
        engine,
        ranks=machines.ranks,
        micro_batch=share.micro_batch,
        micro_batches=share.micro_batches,
        has_average=fit.ema_decay is not None,
        is_half=fit.precision == "bf16",
    )


def _fits(memory: Memory, machines: Machines) -> bool:
    return memory.needed <= usable(machines.gpu.memory_bytes)


def _best(
    run: RunConfig, footprint: Footprint, fit: FitConfig, machines: Machines, share: Share, *, mfu: float | None
) -> Choice | None:
    """The fastest of what fits; of equally fast ones the first, which changes least."""
    fitting = []
    for engine in _engines(run.engine):
        for is_checkpointed, work in _ways(footprint):
            for micro in _divisors(share.samples):
                layout = _layout(engine, fit, machines, Share(samples=share.samples, micro_batch=micro))
                memory = training_memory(footprint, work, layout)
                if _fits(memory, machines):
                    step = step_time(footprint, work, layout, machines, precision=fit.precision, mfu=mfu)
                    zero = engine.zero_stage if isinstance(engine, DeepSpeedEngineConfig) else None
                    choice = Choice(
                        zero_stage=zero,
                        micro_batch=micro,
                        is_checkpointed=is_checkpointed,
                        needed_bytes=memory.needed,
                        step_seconds=step.total,
                    )
                    fitting.append(choice)
    return min(fitting, key=lambda choice: choice.step_seconds, default=None)


def _engines(engine: EngineConfig) -> Iterator[EngineConfig]:
    yield engine
    if isinstance(engine, DeepSpeedEngineConfig):
        for stage in (0, 1, 2, 3):
            yield engine.model_copy(update={"zero_stage": stage})


def _ways(footprint: Footprint) -> list[tuple[bool, Work]]:
    ways = [(False, footprint.work)]
    if footprint.checkpointed is not None:
        ways.append((True, footprint.checkpointed))
    return ways


def _divisors(number: int) -> list[int]:
    """From the largest on."""
    return [divisor for divisor in range(number, 0, -1) if number % divisor == 0]
