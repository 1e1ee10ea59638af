"""`lapactl plan`: what a stage will need on a cluster, before anything is spent."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from lapactl.options import OutputOption, SetOption
from lapactl.output import Output, OutputFormat, duration

if TYPE_CHECKING:
    from lapa.estimate.footprint import Footprint
    from lapa.estimate.prediction import Choice, Prediction

DEFAULT_RUN = "lapa"


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl plan pretrain --nodes 8 --gpu H100 --set engine.zero_stage=2")(plan)


def plan(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="laq, label, pretrain or finetune.")],
    gpu: Annotated[str, typer.Option("--gpu", metavar="TYPE", help="H100, H200, A100-80GB, B200, L40S, …")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, metavar="N", help="Machines.")] = 1,
    gpus_per_node: Annotated[int, typer.Option("--gpus-per-node", min=1, help="GPUs of each.")] = 8,
    config: Annotated[
        str, typer.Option("--config", metavar="PRESET|RUN.YAML", help="The run whose stage it is.")
    ] = DEFAULT_RUN,
    mfu: Annotated[
        float | None,
        typer.Option("--mfu", min=0.01, max=1.0, help="Measured share of the GPU's peak; a published one by default."),
    ] = None,
    network_gbps: Annotated[
        float, typer.Option("--network-gbps", min=0.1, help="Network of each node, in gigabits per second.")
    ] = 400.0,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Predict what a stage will cost.

    Memory, time, storage, GPU-hours. Nothing is allocated and no weights are downloaded: the model's step runs on
    tensors without content. Memory is that of one GPU at its fullest moment. Where the run's settings do not fit,
    the fastest ZeRO stage and micro batch that do are named.
    """
    from lapa.config.load import dump_run, load_run
    from lapa.errors import ConfigError
    from lapa.estimate.footprint import ESTIMATED_STAGES
    from lapa.estimate.gpus import find_gpu
    from lapa.estimate.prediction import predict, refuse_impossible
    from lapa.estimate.speed import Machines

    known = next((name for name in ESTIMATED_STAGES if name == stage), None)
    if known is None:
        raise ConfigError(f"stage '{stage}' uses no GPU to plan for; choose {', '.join(ESTIMATED_STAGES)}")
    machines = Machines(
        gpu=find_gpu(gpu), nodes=nodes, gpus_per_node=gpus_per_node, network_bandwidth=network_gbps * 1e9 / 8
    )
    run = load_run(config, overrides)
    refuse_impossible(run, known, machines)  # in a second: counting a model takes many
    footprint = _footprint(dump_run(run), known)
    predicted = predict(run, footprint, machines, mfu=mfu)
    out = Output(output)
    if out.is_json:
        out.json(_as_json(predicted, footprint))
        return
    _print(out, predicted, footprint, is_assumed=mfu is None)


def _footprint(run: str, stage: str) -> "Footprint":
    """Asked of a process that may load torch."""
    import tempfile
    from pathlib import Path

    from lapa.estimate.footprint import Footprint
    from lapactl.library import ask_library

    with tempfile.TemporaryDirectory(prefix="lapactl-") as scratch:
        file = Path(scratch) / "run.yaml"
        file.write_text(run)
        return Footprint.model_validate(ask_library(["footprint", str(file), stage]))


def _as_json(predicted: "Prediction", footprint: "Footprint") -> dict[str, Any]:
    memory = asdict(predicted.memory)
    return {
        **asdict(predicted),
        "memory": {**memory, "needed": predicted.memory.needed},
        "step": {
            **asdict(predicted.step),
            "compute": predicted.step.compute,
            "regime": predicted.step.computing.regime,
            "total": predicted.step.total,
            "limit": predicted.step.limit,
        },
        "seconds": predicted.seconds,
        "gpu_hours": predicted.gpu_hours,
        "footprint": footprint.model_dump(mode="json"),
    }


def _print(out: Output, predicted: "Prediction", footprint: "Footprint", *, is_assumed: bool) -> None:
    machines, share, layout = predicted.machines, predicted.share, predicted.layout
    places = f"{machines.nodes} node{'s' if machines.nodes > 1 else ''} of {machines.gpus_per_node}"
    frozen = predicted.parameters - predicted.trainable
    told = f", {_millions(frozen)} of them frozen" if frozen and predicted.trainable else ""
    engine = f"DeepSpeed, ZeRO stage {layout.zero_stage}" if layout.is_deepspeed else "plain torch"
    out.text(f"{predicted.stage} on {places} {machines.gpu.name}: {_millions(predicted.parameters)} parameters{told}")
    out.text(
        f"batch {predicted.batch:,}: {share.samples} per GPU, {share.micro_batch} at a time; "
        f"{engine if predicted.trainable else 'no training'}, {predicted.precision}"
        + (", activations checkpointed" if predicted.is_checkpointed else "")
    )
    _print_memory(out, predicted)
    _print_time(out, predicted, is_assumed=is_assumed)
    _print_storage(out, predicted, footprint)


def _print_memory(out: Output, predicted: "Prediction") -> None:
    memory, gpu = predicted.memory, predicted.machines.gpu
    rows: list[Mapping[str, Any]] = [
        {"memory of one GPU": name.replace("_", " "), "GB": f"{size / 1e9:.2f}"}
        for name, size in asdict(memory).items()
    ]
    rows.append({"memory of one GPU": "CUDA, NCCL (assumed)", "GB": f"{(memory.needed - memory.tensors) / 1e9:.2f}"})
    rows.append({"memory of one GPU": "together", "GB": f"{memory.needed / 1e9:.2f}"})
    out.text("")
    out.table(rows, columns=["memory of one GPU", "GB"])
    if predicted.fits:
        out.text(f"fits into {gpu.memory_bytes / 1e9:.0f} GB, 5% of them left to the allocator")
        return
    out.text(f"does NOT fit into {gpu.memory_bytes / 1e9:.0f} GB, 5% of them left to the allocator")
    out.text(_advice(predicted.stage, predicted.better))


def _advice(stage: str, better: "Choice | None") -> str:
    if better is None:
        return "nothing here fits: take more GPUs, larger ones, or a smaller model"
    settings = [f"--set {stage}.fit.micro_batch_size={better.micro_batch}"]
    if better.zero_stage is not None:
        settings.insert(0, f"--set engine.zero_stage={better.zero_stage}")
    if better.is_checkpointed:
        settings.append(f"--set {stage}.backbone.gradient_checkpointing=true")
    return (
        f"fits with {' '.join(settings)}: {better.needed_bytes / 1e9:.1f} GB, {better.step_seconds:.3g} s a step; "
        "the fastest that does"
    )


def _print_time(out: Output, predicted: "Prediction", *, is_assumed: bool) -> None:
    step = predicted.step
    what = "step" if predicted.trainable else "batch"
    out.text(
        f"\n{what}: {step.total:.3g} s, limited by {step.limit} ({step.compute:.3g} s of computing, "
        f"{_computing(predicted, is_assumed=is_assumed)}; {step.communication:.3g} s of communication beside it)"
    )
    if step.computing.regime == "calls" and step.limit == "compute":
        busy = max(step.computing.products, step.computing.memory) / step.compute
        out.text(
            f"the GPU is busy for {busy:.0%} of that, and waits for its host: more samples in a pass, or fewer GPUs, "
            "would be better spent"
        )
    out.text(f"speed: {predicted.batch / step.total:,.0f} samples/s")
    if predicted.seconds is None or predicted.gpu_hours is None:
        out.text("in all: unknown until the dataset is made")
        return
    out.text(
        f"in all: {predicted.steps:,} steps, {duration(predicted.seconds)} ({predicted.seconds / 86400:.2f} days), "
        f"{predicted.gpu_hours:,.0f} GPU-hours, without start, validation and restarts"
    )


def _computing(predicted: "Prediction", *, is_assumed: bool) -> str:
    """What the time of computing is, and where that is from."""
    computing = predicted.step.computing
    match computing.regime:
        case "calls":
            return "as long as the host needs to call its operators one by one; measured on a CPU, assumed here"
        case "memory":
            return "as long as operators of their own read and write memory; the data sheet's bandwidth, not measured"
        case "products":
            where = "published by others, not measured here" if is_assumed else "as given"
            return f"at {predicted.mfu:.0%} of the peak, {where}"
        case _:
            assert_never(computing.regime)


def _print_storage(out: Output, predicted: "Prediction", footprint: "Footprint") -> None:
    rate, nodes = predicted.storage_bytes_per_second / 1e6, predicted.machines.nodes
    source = "of the dataset" if footprint.stored_bytes_are_measured else "assumed, for the dataset is not made"
    out.text(
        f"storage must deliver {rate / nodes:,.1f} MB/s to each node, {rate:,.1f} MB/s in all "
        f"({footprint.stored_bytes / 1e3:.1f} kB per sample, {source})"
    )
    if predicted.checkpoint_bytes is not None:
        out.text(f"a checkpoint is {predicted.checkpoint_bytes / 1e9:.1f} GB")


def _millions(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"
