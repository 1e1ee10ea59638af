"""What a finetuned policy is told about its robot comes from the training episodes alone."""

from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import StreamConfig
from lapa.config.stages import FinetuneConfig
from lapa.config.vla import BinnedHead, ConvolutionalBackbone
from lapa.data.dataset import Dataset
from lapa.data.splits import split_rows
from lapa.data.stream import episode_arrays
from lapa.errors import CheckpointMismatch
from lapa.models.vla.action_space import fit_action_space
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.storage import save_vla
from lapa.stages.finetune import policy_spec
from tests.builders import make_dataset

SHARE = 0.3


def test_held_out_episodes_do_not_leak_into_the_statistics_of_proprioception(tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", frames=[8, 10, 12, 14, 16, 18]))
    stream = StreamConfig(validation_share=SHARE)
    config = FinetuneConfig(backbone=ConvolutionalBackbone(), use_proprioception=True, stream=stream)
    spec = policy_spec(config, dataset, pretrained=None)
    training, held_out = split_rows(dataset, SHARE)
    assert len(held_out)
    known = np.concatenate([episode_arrays(dataset, row)["proprioception"] for row in training])
    np.testing.assert_allclose(spec.proprioception_mean, known.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(spec.proprioception_std, known.std(axis=0), rtol=1e-4)
    assert dataset.info.proprioception is not None
    assert spec.proprioception_mean != pytest.approx(dataset.info.proprioception.mean)


def test_no_proprioception_has_no_statistics(tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=2))
    spec = policy_spec(FinetuneConfig(backbone=ConvolutionalBackbone()), dataset, pretrained=None)
    assert spec.proprioception_mean == spec.proprioception_std == ()


def pretrained_on(folder: Path, names: tuple[str, ...]) -> VlaSpec:
    """A model folder with an action head for dimensions of these names."""
    values = np.random.default_rng(0).normal(size=(50, len(names)))
    backbone = ConvolutionalBackbone(width=8, blocks=1, keypoints=4, hidden=16)
    spec = VlaSpec(backbone=backbone, head=BinnedHead(bins=8), actions=fit_action_space(values, names, 8))
    save_vla(folder, build_vla(spec))
    return spec


def test_a_kept_head_brings_its_own_bins_and_statistics(tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=2))
    pretrained = pretrained_on(tmp_path / "model", ("x", "y", "z"))
    head = BinnedHead(bins=8)
    kept = policy_spec(FinetuneConfig(head=head, keep_head=True), dataset, str(tmp_path / "model"))
    assert kept.actions == pretrained.actions
    fresh = policy_spec(FinetuneConfig(head=head), dataset, str(tmp_path / "model"))
    assert fresh.actions != pretrained.actions and fresh.head == pretrained.head


@pytest.mark.parametrize("names", [("x", "y"), ("y", "x", "z")])
def test_a_head_for_other_actions_is_not_kept(tmp_path: Path, names: tuple[str, ...]):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=2))
    pretrained_on(tmp_path / "model", names)
    config = FinetuneConfig(head=BinnedHead(bins=8), keep_head=True)
    with pytest.raises(CheckpointMismatch, match=rf"{', '.join(names)};.* are x, y, z.*finetune\.keep_head=false"):
        policy_spec(config, dataset, str(tmp_path / "model"))
