"""The labeller seam: a model folder says what labels it makes."""

import pytest
import torch

from lapa.errors import CheckpointMismatch
from lapa.models.inverse_dynamics.model import INVERSE_DYNAMICS_KIND, InverseDynamicsModel, InverseDynamicsSpec
from lapa.models.latent_action.model import LATENT_ACTION_KIND, build_latent_action_model
from lapa.models.storage import save_model
from lapa.stages.labellers import InverseDynamicsLabeller, LatentActionLabeller, load_labeller
from lapa.types.batches import FramePair
from tests.training.laq import laq_config

SPEC = InverseDynamicsSpec(
    image_size=24, width=8, blocks=(1, 1), action_names=("x", "gripper"), action_mean=(5.0, 0.5), action_std=(2.0, 1.0)
)
CPU = torch.device("cpu")


def film(count, size=24):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def as_episode(frames):
    return frames.permute(0, 2, 3, 1).numpy()


def test_each_kind_of_model_gets_its_labeller(tmp_path):
    config, actions = laq_config().model, InverseDynamicsModel(SPEC)
    codes = build_latent_action_model(config)
    save_model(tmp_path / "codes", kind=LATENT_ACTION_KIND, config=config, state=codes.state_dict())
    save_model(tmp_path / "actions", kind=INVERSE_DYNAMICS_KIND, config=SPEC, state=actions.state_dict())
    save_model(tmp_path / "other", kind="vla", config=SPEC, state=actions.state_dict())
    by_codes, by_actions = (load_labeller(str(tmp_path / name), CPU) for name in ("codes", "actions"))
    assert isinstance(by_codes, LatentActionLabeller) and by_codes.stamp()["codebook_size"] == 4
    assert isinstance(by_actions, InverseDynamicsLabeller) and by_actions.stamp()["action_names"] == ("x", "gripper")
    with pytest.raises(CheckpointMismatch, match="'vla', which labels nothing; labellers are 'latent-action' and"):
        load_labeller(str(tmp_path / "other"), CPU)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_an_episode_is_labelled_pair_by_pair_whatever_the_batch(batch_size):
    model, frames = InverseDynamicsModel(SPEC).eval(), film(10)
    labeller = InverseDynamicsLabeller(model)
    labels = labeller.label("e", as_episode(frames), window=3, batch_size=batch_size)
    assert labels.actions.shape == (7, 2)
    wanted = model.predict(FramePair(current=frames[:7], future=frames[3:]))
    torch.testing.assert_close(torch.from_numpy(labels.actions), wanted, atol=1e-5, rtol=1e-5)
    assert len(labeller.label("short", as_episode(frames[:3]), window=3, batch_size=4)) == 0
