"""The inverse-dynamics model: units, sizes, and folders that hold something else."""

import pytest
import torch

from lapa.config.inverse_dynamics import InverseDynamicsConfig
from lapa.errors import CheckpointMismatch
from lapa.models.inverse_dynamics.model import (
    INVERSE_DYNAMICS_KIND,
    InverseDynamicsModel,
    InverseDynamicsSpec,
    load_inverse_dynamics_model,
)
from lapa.models.storage import save_model
from lapa.types.batches import FramePair

SPEC = InverseDynamicsSpec(
    image_size=24, width=8, blocks=(1, 1), action_names=("x", "gripper"), action_mean=(5.0, 0.5), action_std=(2.0, 1.0)
)


def frames(count=3, size=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, count, 3, size, size), dtype=torch.uint8, generator=generator)


def seeded(spec=SPEC):
    torch.manual_seed(0)
    return InverseDynamicsModel(spec).eval()


def test_predictions_are_in_robot_units():
    model = seeded()
    pair = FramePair(current=frames()[0], future=frames()[1])
    predicted = model.predict(pair)
    torch.testing.assert_close(model.normalize(predicted), model(pair).detach())
    shifted = seeded(SPEC.model_copy(update={"action_mean": (6.0, 0.5)})).predict(pair)
    torch.testing.assert_close(shifted - predicted, torch.tensor([[1.0, 0.0]] * 3))


def test_at_its_full_width_it_is_as_large_as_resnet_18():
    config = InverseDynamicsConfig(width=64)
    spec = SPEC.model_copy(update={"width": config.width, "blocks": config.blocks})
    convolutions = [module for module in InverseDynamicsModel(spec).modules() if isinstance(module, torch.nn.Conv2d)]
    assert len([module for module in convolutions if module.kernel_size == (3, 3)]) == 16
    assert sum(p.numel() for p in InverseDynamicsModel(spec).parameters()) == pytest.approx(11.2e6, rel=0.02)


def test_it_comes_back_from_its_folder_and_names_what_else_a_folder_holds(tmp_path):
    model, pair = seeded(), FramePair(current=frames()[0], future=frames()[1])
    save_model(tmp_path / "ours", kind=INVERSE_DYNAMICS_KIND, config=SPEC, state=model.state_dict())
    torch.testing.assert_close(load_inverse_dynamics_model(str(tmp_path / "ours")).predict(pair), model.predict(pair))
    save_model(tmp_path / "other", kind="vla", config=SPEC, state=model.state_dict())
    with pytest.raises(CheckpointMismatch, match="'vla'"):
        load_inverse_dynamics_model(str(tmp_path / "other"))
