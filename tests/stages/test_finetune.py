"""What a finetuned policy is told about its robot comes from the training episodes alone."""

from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import StreamConfig
from lapa.config.stages import FinetuneConfig
from lapa.config.vla import ConvolutionalBackbone
from lapa.data.dataset import Dataset
from lapa.data.splits import split_rows
from lapa.data.stream import episode_arrays
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
