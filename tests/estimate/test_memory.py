"""The memory model against bytes of real tensors."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lapa.config.training import DeepSpeedEngineConfig, FitConfig, TorchEngineConfig
from lapa.config.vla import ConvolutionalBackbone, HuggingFaceBackbone
from lapa.estimate.footprint import Affine, Footprint, Work
from lapa.estimate.memory import layout_of, training_memory
from lapa.models.latent_action.model import build_latent_action_model
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.tiny import FAMILIES, write_tiny_backbone
from lapa.stages.describe import some_batch, without_weights
from lapa.stages.footprint import Subject, count_pass, fake_latent_action, measured_work, parameter_groups
from lapa.training.engine import build_engine
from lapa.types.batches import FramePair
from tests.distributed import run_ranks
from tests.estimate.models import small_latent_action

SAMPLES = 7
"""None of those that the slope is taken from."""


def close(measured: int, predicted: int) -> bool:
    """Within the promised 5%."""
    return abs(measured - predicted) <= 0.05 * measured


def vla_subject(model, spec) -> Subject:
    return Subject(model, lambda samples: model(some_batch(spec, 32, samples))["latent"])


@pytest.mark.parametrize("is_half", [False, True])
def test_what_the_latent_action_model_saves_is_predicted(is_half):
    config = small_latent_action()
    model = build_latent_action_model(config).train()

    def loss(samples: int) -> Tensor:
        frames = torch.zeros(samples, 3, 32, 32, dtype=torch.uint8)
        return model(FramePair(current=frames, future=frames)).loss

    measured = count_pass(Subject(model, loss), SAMPLES, trains=True, is_half=is_half)
    predicted = measured_work(fake_latent_action(config, labels=False), trains=True, is_half=is_half)
    assert close(measured.saved, predicted.saved.at(SAMPLES))
    assert close(measured.flops, predicted.flops * SAMPLES)


def test_what_a_small_policy_saves_is_predicted():
    spec = VlaSpec(backbone=ConvolutionalBackbone(image_size=32), codes_per_pair=2, codebook_size=8)
    measured = count_pass(vla_subject(build_vla(spec).train(), spec), SAMPLES, trains=True, is_half=False)
    predicted = measured_work(vla_subject(without_weights(spec).train(), spec), trains=True, is_half=False)
    assert close(measured.saved, predicted.saved.at(SAMPLES))


@pytest.mark.parametrize(("family", "is_checkpointed"), zip(FAMILIES, [False, True, False, True], strict=True))
def test_what_a_language_model_saves_is_predicted(tmp_path, family, is_checkpointed):
    backbone = HuggingFaceBackbone(
        model=str(write_tiny_backbone(tmp_path, family)), weights="random", gradient_checkpointing=is_checkpointed
    )
    spec = VlaSpec(backbone=backbone, codes_per_pair=4, codebook_size=8)
    measured = count_pass(vla_subject(build_vla(spec).train(), spec), SAMPLES, trains=True, is_half=True)
    predicted = measured_work(vla_subject(without_weights(spec).train(), spec), trains=True, is_half=True)
    assert close(measured.saved, predicted.saved.at(SAMPLES))
    assert close(measured.flops, predicted.flops * SAMPLES)


def test_weights_gradients_and_moments_of_one_process_are_predicted():
    config = small_latent_action()
    fit = FitConfig(steps=1, batch_size=2)
    engine = build_engine(lambda: build_latent_action_model(config), TorchEngineConfig(device="cpu"), fit, seed=0)
    frames = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    engine.backward(engine.run(FramePair(current=frames, future=frames)).loss)
    parameters = list(engine.model.parameters())
    moments = [value for state in engine.optimizer.state.values() for value in state.values()]
    nothing = Work(saved=Affine(fixed=0, per_sample=0), flops=0)
    footprint = Footprint(
        stage="laq", parameters=parameter_groups(engine.model), work=nothing,
        frame_bytes=0, stored_bytes=0, stored_bytes_are_measured=False,
    )  # fmt: skip
    layout = layout_of(TorchEngineConfig(), ranks=1, micro_batch=2, has_average=False, is_half=False)
    memory = training_memory(footprint, nothing, layout)
    assert close(sum(p.nbytes for p in parameters), memory.parameters)
    assert close(sum(p.grad.nbytes for p in parameters if p.grad is not None), memory.gradients)
    assert close(sum(moment.nbytes for moment in moments), memory.optimizer)


def test_more_ranks_never_need_more_memory():
    nothing = Work(saved=Affine(fixed=0, per_sample=0), flops=0)
    footprint = Footprint(
        stage="laq", parameters=parameter_groups(build_latent_action_model(small_latent_action())), work=nothing,
        frame_bytes=0, stored_bytes=0, stored_bytes_are_measured=False,
    )  # fmt: skip
    for stage in (0, 1, 2, 3):
        engine = DeepSpeedEngineConfig(zero_stage=stage, bucket_bytes=1000)
        needs = [
            training_memory(
                footprint, nothing, layout_of(engine, ranks=n, micro_batch=1, has_average=True, is_half=True)
            ).tensors
            for n in (1, 2, 8, 64)
        ]
        assert needs == sorted(needs, reverse=True)


@pytest.mark.slow
def test_what_each_zero_stage_holds_on_two_ranks_is_predicted(tmp_path):
    out = tmp_path / "found.json"
    run_ranks(Path(__file__).parent / "check_memory.py", [str(out)])
    found = json.loads(out.read_text())
    assert len(found) == 8
    for name, numbers in found.items():
        assert close(numbers["held"], numbers["held_predicted"]), (name, numbers)
        assert close(numbers["gathered"], numbers["gathered_predicted"]), (name, numbers)
