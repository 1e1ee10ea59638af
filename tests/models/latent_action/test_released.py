"""Our model computes what the released one does; `benchmarks/parity.py` made the expected values with the
reference code itself."""

import json
import sys
from pathlib import Path

import pytest
import torch

from lapa.config.latent_action import LatentActionConfig
from lapa.config.models import lapa_model, lapa_paper_model
from lapa.errors import CheckpointMismatch, ConfigError
from lapa.models.latent_action.attention import FeedForward
from lapa.models.latent_action.model import LatentActionModel, build_latent_action_model
from lapa.models.latent_action.released import load_released, released_parameter_count, released_state_dict

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from parity import filled, frames, small_config

GOLDEN = json.loads((Path(__file__).parent / "released_golden.json").read_text())


@pytest.fixture
def released() -> LatentActionModel:
    model = build_latent_action_model(small_config())
    shapes = {name: tuple(value.shape) for name, value in released_state_dict(model).items()}
    load_released(model, filled(shapes, seed=1))
    return model


def test_released_weights_give_the_reference_loss_and_codes_for_the_same_noise(released: LatentActionModel) -> None:
    torch.manual_seed(3)
    output = released.train()(frames(64, 5, seed=2))
    assert output.codes.tolist() == GOLDEN["codes"]
    assert output.loss.item() == pytest.approx(GOLDEN["loss"], abs=1e-5)


def test_released_weights_decode_hard_codes_to_the_reference_images(released: LatentActionModel) -> None:
    pair = frames(64, 5, seed=2)
    codes = released.eval().encode(pair).codes
    images = released.decode(pair.current, codes)
    assert codes.tolist() == GOLDEN["codes"]
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), torch.tensor(GOLDEN["image_mean"]), atol=1e-5, rtol=0)
    sample = images[:, :, ::13, ::17].flatten(1)[:, :12]
    torch.testing.assert_close(sample, torch.tensor(GOLDEN["image_sample"]), atol=1e-5, rtol=0)


def test_the_paper_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = build_latent_action_model(lapa_paper_model())
        assert released_parameter_count(model) == 343_796_080


def test_released_weights_survive_a_round_trip(released: LatentActionModel) -> None:
    state = released_state_dict(released)
    again = build_latent_action_model(small_config())
    load_released(again, {f"module.{name}": value for name, value in state.items()})
    assert all(torch.equal(value, state[name]) for name, value in released_state_dict(again).items())


def test_weights_that_lack_a_tensor_or_hold_another_are_refused_by_name(released: LatentActionModel) -> None:
    state = released_state_dict(released)
    state["vq.surprise"] = state.pop("vq.codebooks")
    with pytest.raises(CheckpointMismatch, match=r"missing vq.codebooks; unexpected vq.surprise"):
        load_released(released, state)


def test_weights_of_another_size_are_refused_and_nothing_changes(released: LatentActionModel) -> None:
    state = {name: value * 2 for name, value in released_state_dict(released).items()}
    before = released_state_dict(released)
    state["vq.codebooks"] = torch.zeros(16, 16)
    with pytest.raises(CheckpointMismatch, match=r"vq.codebooks is \(16, 16\), not \(8, 16\)"):
        load_released(released, state)
    assert all(torch.equal(value, before[name]) for name, value in released_state_dict(released).items())


def test_only_the_released_layout_takes_released_weights() -> None:
    with torch.device("meta"):
        model = build_latent_action_model(lapa_model())
    with pytest.raises(ConfigError, match="lapa-paper"):
        released_state_dict(model)


def test_padding_of_the_feedforward_computes_nothing_and_receives_no_gradient() -> None:
    feedforward = FeedForward(32, multiplier=4)
    inner = feedforward.inner
    assert inner == 85 and feedforward.out_weight.shape == (32, 96)
    feedforward(torch.randn(7, 32)).square().sum().backward()
    for weight in (feedforward.inner_weight[:, inner:], feedforward.out_weight[:, inner:]):
        assert weight.abs().max() == 0
    assert feedforward.inner_weight.grad is not None and feedforward.inner_weight.grad[:, inner:].abs().max() == 0
    assert feedforward.out_weight.grad is not None and feedforward.out_weight.grad[:, inner:].abs().max() == 0


def test_without_the_released_layout_the_temporal_convolution_keeps_cells_apart() -> None:
    """Changing one corner of the future frame must not reach the opposite corner through the convolution."""

    def reached(released_layout: bool) -> bool:
        config = small_config()
        architecture = config.architecture.model_copy(update={"released_layout": released_layout})
        config = LatentActionConfig.model_validate({**config.model_dump(), "architecture": architecture.model_dump()})
        block = build_latent_action_model(config).dynamics.inverse_dynamics.temporal[0]  # type: ignore[attr-defined]
        tokens = torch.randn(1, 64, 2, 48)
        changed = tokens.clone()
        changed[:, 0, 1] += 1
        difference = (block(changed) - block(tokens)).abs().amax(dim=(0, 2, 3))
        near = torch.zeros(8, 8, dtype=torch.bool)
        near[:2, :2] = True
        return bool(difference[~near.flatten()].max() > 1e-5)

    assert not reached(released_layout=False)
    assert reached(released_layout=True)
