"""What a submission asks for, in numbers that are known: nodes, GPUs, batch per rank, steps.

Hours follow only from a step time that somebody measured on such nodes; `lapactl plan` predicts one.
"""

from dataclasses import dataclass

from lapa.config.training import FitConfig
from lapa.estimate.prediction import cost, share_of
from lapa_k8s.spec import ONE_PROCESS_STAGES
from lapactl.output import Output, duration
from lapactl.submit_job import PlannedJob


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of one stage's job."""

    nodes: int
    gpus: int
    """Over all nodes."""
    ranks: int
    steps: int | None
    """Optimizer updates; null for a stage that trains nothing, as for the two below."""
    batch_size: int | None
    batch_per_rank: int | None
    at_a_time: int | None
    """Samples per rank and forward pass."""
    seconds: float | None
    """Of training alone; null without a measured step time."""
    gpu_hours: float | None


def estimate(planned: PlannedJob, step_seconds: float | None) -> Estimate:
    """`step_seconds`: measured on such nodes, with such a batch."""
    spec = planned.spec
    ranks, gpus = spec.nodes * spec.processes_per_node, spec.nodes * spec.node.gpus
    fit = getattr(getattr(planned.run, spec.stage, None), "fit", None)
    if not isinstance(fit, FitConfig) or spec.stage in ONE_PROCESS_STAGES:
        fit = None
    share = share_of(fit, ranks) if fit else None
    seconds = fit.steps * step_seconds if fit and step_seconds is not None else None
    return Estimate(
        nodes=spec.nodes,
        gpus=gpus,
        ranks=ranks,
        steps=fit.steps if fit else None,
        batch_size=fit.batch_size if fit else None,
        batch_per_rank=share.samples if share else None,
        at_a_time=share.micro_batch if share else None,
        seconds=seconds,
        gpu_hours=cost(seconds, gpus),
    )


def say_estimate(out: Output, found: Estimate, *, stage: str | None = None) -> None:
    """What is asked, in a line for each part; `stage` tells a pipeline's lines apart."""
    label = f"{stage} " if stage else ""
    each = f"{_count(found.gpus // found.nodes, 'GPU')} each, {found.gpus} in all" if found.gpus else "no GPU"
    out.say(f"{label}asks for {_count(found.nodes, 'node')}, {each}; {_count(found.ranks, 'process')}")
    if found.steps is None:
        return
    parts = f"{found.batch_per_rank} per process"
    if found.at_a_time != found.batch_per_rank:
        parts += f", {found.at_a_time} at a time"
    out.say(f"{label}trains {_count(found.steps, 'step')} of {found.batch_size:,} samples, {parts}")
    if found.seconds is not None and found.gpu_hours is not None:
        used = f", {found.gpu_hours:,.1f} GPU hours" if found.gpus else ""
        out.say(f"at the step time given: {duration(found.seconds)}{used}, without start, validation and restarts")
    elif stage is None:
        out.say(
            "how long that takes is not known here; --step-seconds takes a step time measured on such nodes, and "
            "`lapactl plan` predicts one"
        )


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{'' if number == 1 else plural}"
