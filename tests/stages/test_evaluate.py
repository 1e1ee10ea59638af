"""What evaluation says where it has nothing to compare with."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lapa.config.data import StreamConfig
from lapa.config.stages import FinetuneConfig
from lapa.data.dataset import Dataset
from lapa.policy.policy import Policy
from lapa.stages.evaluate import held_out_numbers
from tests.builders import make_dataset


@pytest.mark.parametrize(("episodes", "share"), [(1, 0.1), (4, 0.0)], ids=["an only episode", "a share of zero"])
def test_evaluation_without_held_out_episodes_says_so(episodes: int, share: float, tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=episodes))
    config = FinetuneConfig(stream=StreamConfig(validation_share=share))
    metrics, messages = held_out_numbers(cast(Policy, SimpleNamespace()), dataset, config)
    assert metrics == {}
    assert messages[0].startswith("No episode was held out")
