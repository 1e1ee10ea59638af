"""What a stage's model asks of a device: counted in a training step on fake tensors, printed as JSON.

Nothing is allocated and no weights are downloaded. What a real step keeps for its backward pass is what the same
step keeps on fake tensors, byte by byte; operations come from the same step, so frozen parts and recomputation
count as they are.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lapa.config.latent_action import LatentActionConfig
from lapa.config.run import RunConfig
from lapa.config.training import FitConfig
from lapa.config.vla import HuggingFaceBackbone
from lapa.errors import ConfigError
from lapa.estimate.footprint import Affine, EstimatedStage, Footprint, ParameterGroup, Work
from lapa.models.inverse_dynamics.model import InverseDynamicsModel
from lapa.models.latent_action.model import build_latent_action_model
from lapa.models.vla.spec import VlaSpec
from lapa.stages.describe import (
    TYPICAL_INSTRUCTION,
    finetuned_spec,
    frame_size,
    inverse_dynamics_spec,
    made_dataset,
    pretrained_spec,
    some_batch,
    without_weights,
)
from lapa.types.batches import FramePair

STORED_BYTES_PER_PIXEL = 0.125
"""Of H.264 at the stored quality, for natural video. Assumed: a made dataset is looked at instead."""
_MOVES_NOTHING = frozenset(
    (torch.ops.aten._unsafe_view.default, torch.ops.aten.detach.default, torch.ops.aten.empty_like.default)
)
"""Operators that are no views by name, and touch no element all the same."""
MEASURED_SAMPLES = (2, 4)
"""Two sizes give the slope; with one sample alone some copies are views."""


class Counted(NamedTuple):
    """One pass of one size."""

    saved: int
    flops: int
    moved: int
    calls: int


class Subject(NamedTuple):
    """A model, and one pass through it: from a number of samples to the loss."""

    model: nn.Module
    run: Callable[[int], Tensor]


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Print the footprint of one stage: `laq`, `label`, `pretrain` or `finetune`."""
    sys.stdout.write(footprint(run, arguments[0] if arguments else "laq").model_dump_json() + "\n")  # type: ignore[arg-type]


def footprint(run: RunConfig, stage: EstimatedStage) -> Footprint:
    """ConfigError for a stage that the run lacks, or that has no model."""
    fit: FitConfig | None = getattr(getattr(run, stage, None), "fit", None)
    is_half = fit is not None and fit.precision == "bf16"
    match stage:
        case "laq" | "label" if run.laq.labeller == "inverse-dynamics":
            subject = _inverse_dynamics(run)
            return _told(run, stage, subject.model, measured_work(subject, trains=stage == "laq", is_half=is_half))
        case "laq" | "label":
            subject = fake_latent_action(run.laq.model, labels=stage == "label")
            work = measured_work(subject, trains=stage == "laq", is_half=is_half)
            if stage == "label":
                # A bound for what one layer needs at a time: what training would keep of all.
                training = fake_latent_action(run.laq.model, labels=False)
                work = work.model_copy(update={"saved": measured_work(training, trains=False, is_half=False).saved})
            return _told(run, stage, subject.model, work)
        case "pretrain" if run.pretrain:
            return _policy(run, stage, pretrained_spec(run, run.pretrain)[0], is_half=is_half)
        case "finetune" if run.finetune:
            return _policy(run, stage, finetuned_spec(run, run.finetune)[0], is_half=is_half)
        case _:
            raise ConfigError(f"stage '{stage}' has no model in this run; choose laq, label, pretrain or finetune")


def fake_latent_action(config: LatentActionConfig, *, labels: bool) -> Subject:
    """Training step, or labelling."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model = build_latent_action_model(config).train(not labels)

    def loss(samples: int) -> Tensor:
        with mode:
            pair = _pair(samples, config.image_size)
            return model.encode(pair).vectors.sum() if labels else model(pair).loss

    return Subject(model, loss)


def _inverse_dynamics(run: RunConfig) -> Subject:
    spec, _ = inverse_dynamics_spec(run)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model = InverseDynamicsModel(spec)

    def loss(samples: int) -> Tensor:
        with mode:
            predicted: Tensor = model(_pair(samples, spec.image_size))
            return predicted.square().mean()

    return Subject(model, loss)


def _pair(samples: int, side: int) -> FramePair:
    frames = torch.zeros(samples, 3, side, side, dtype=torch.uint8)
    return FramePair(current=frames, future=frames.clone())


def _policy(run: RunConfig, stage: EstimatedStage, spec: VlaSpec, *, is_half: bool) -> Footprint:
    """With and without checkpointing, where the backbone knows it."""
    side = frame_size(run, "videos" if stage == "pretrain" else "robot")
    backbone = spec.backbone
    if not isinstance(backbone, HuggingFaceBackbone):
        subject = _vla(spec, side)
        return _told(run, stage, subject.model, measured_work(subject, trains=True, is_half=is_half))
    plain, kept = (
        _vla(
            spec.model_copy(update={"backbone": backbone.model_copy(update={"gradient_checkpointing": is_kept})}), side
        )
        for is_kept in (False, True)
    )
    work = measured_work(plain, trains=True, is_half=is_half)
    checkpointed = measured_work(kept, trains=True, is_half=is_half)
    language_model: Any = kept.model.backbone
    layers = language_model.model.config.get_text_config().num_hidden_layers
    one_layer = Affine(fixed=0, per_sample=(work.saved.per_sample - checkpointed.saved.per_sample) // layers)
    frame = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    prompt = language_model.prompter(frame, (TYPICAL_INSTRUCTION,))
    return _told(run, stage, plain.model, work).model_copy(
        update={
            "checkpointed": checkpointed.model_copy(update={"recomputed": one_layer}),
            "is_checkpointed": backbone.gradient_checkpointing,
            "tokens": int(prompt["input_ids"].shape[1]),
        }
    )


def _vla(spec: VlaSpec, side: int) -> Subject:
    model = without_weights(spec).train()

    def loss(samples: int) -> Tensor:
        results: dict[str, Tensor] = model(some_batch(spec, side, samples))
        return torch.stack([results[name] for name in ("latent", "action") if name in results]).sum()

    return Subject(model, loss)


def measured_work(subject: Subject, *, trains: bool, is_half: bool) -> Work:
    """What one pass keeps and computes, for any number of samples."""
    few, many = MEASURED_SAMPLES
    small = count_pass(subject, few, trains=trains, is_half=is_half)
    large = count_pass(subject, many, trains=trains, is_half=is_half)
    return Work(
        saved=_affine(few, small.saved, many, large.saved),
        flops=small.flops // few,
        moved=_affine(few, small.moved, many, large.moved),
        calls=small.calls,
    )


def _affine(few: int, small: int, many: int, large: int) -> Affine:
    slope = (large - small) // (many - few)
    return Affine(fixed=max(small - few * slope, 0), per_sample=slope)


def count_pass(subject: Subject, samples: int, *, trains: bool, is_half: bool) -> Counted:
    """Bytes that the forward pass saves, parameters and buffers not counted; operations, bytes and operators of the
    whole step."""
    own = {t.untyped_storage()._cdata for t in (*subject.model.parameters(), *subject.model.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = tensor  # held: an address that is free again would be counted once
        return tensor

    counter, traffic = FlopCounterMode(display=False), Traffic()
    with counter, traffic, torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = subject.run(samples)
        total = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
        saved.clear()
        if trains:
            loss.backward()  # type: ignore[no-untyped-call]
            subject.model.zero_grad(set_to_none=True)  # the next pass would add to them
    return Counted(saved=total, flops=_flops(counter), moved=traffic.moved, calls=traffic.calls)


class Traffic(TorchDispatchMode):
    """Counts operators, and the bytes that each reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace != "aten":  # fake tensors are asked for their device, which real ones are not
            return result
        self.calls += 1
        if not func.is_view and func not in _MOVES_NOTHING:
            tensors = (leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
            # What is expanded is read once.
            self.moved += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        return result


def _flops(counter: FlopCounterMode) -> int:
    """torch counts the backward pass of grouped convolutions as if they were whole; it is twice the forward pass."""
    counts: dict[Any, int] = dict(counter.get_flop_counts()["Global"])
    forward = sum(n for operator, n in counts.items() if str(operator).endswith("convolution"))
    return sum(
        min(number, 2 * forward) if "convolution_backward" in str(operator) else number
        for operator, number in counts.items()
    )


def _told(run: RunConfig, stage: EstimatedStage, model: nn.Module, work: Work) -> Footprint:
    role = "robot" if stage == "finetune" or (run.laq.labeller == "inverse-dynamics" and stage == "laq") else "videos"
    side = frame_size(run, role)
    dataset = made_dataset(run, role)
    frames = sum(dataset.index["num_frames"].to_pylist()) if dataset else 0
    stored = sum(dataset.index["video_bytes"].to_pylist()) / frames if dataset and frames else None
    return Footprint(
        stage=stage,
        parameters=parameter_groups(model),
        buffer_bytes=sum(buffer.untyped_storage().nbytes() for buffer in model.buffers()),
        work=work,
        frame_bytes=3 * side**2,
        stored_bytes=STORED_BYTES_PER_PIXEL * side**2 if stored is None else stored,
        stored_bytes_are_measured=stored is not None,
        samples=frames or None,
    )


def parameter_groups(model: nn.Module) -> tuple[ParameterGroup, ...]:
    """By size, and whether they are trained."""
    counts = Counter((p.numel(), p.requires_grad) for p in model.parameters())
    return tuple(
        ParameterGroup(numel=numel, count=count, is_trainable=is_trainable)
        for (numel, is_trainable), count in sorted(counts.items())
    )
