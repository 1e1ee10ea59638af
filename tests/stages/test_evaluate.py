"""What evaluation says where it has nothing to compare with, and how its processes get their policies."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from lapa.config.data import StreamConfig
from lapa.config.stages import FinetuneConfig
from lapa.config.vla import FlowHead
from lapa.data.dataset import Dataset
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.policy.policy import Policy
from lapa.stages.evaluate import held_out_numbers, policy_for_shard, shown_episodes
from lapa.types.episodes import Observation
from tests.builders import make_dataset
from tests.models.vla.models import seeded, small_convolutional, spec_of


@pytest.mark.parametrize(("episodes", "share"), [(1, 0.1), (4, 0.0)], ids=["an only episode", "a share of zero"])
def test_evaluation_without_held_out_episodes_says_so(episodes: int, share: float, tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=episodes))
    config = FinetuneConfig(stream=StreamConfig(validation_share=share))
    metrics, messages = held_out_numbers(cast(Policy, SimpleNamespace()), dataset, config)
    assert metrics == {}
    assert messages[0].startswith("No episode was held out")


def test_a_shard_meets_the_same_policy_whatever_its_process_did_before(tmp_path: Path):
    save_vla(tmp_path / "model", seeded(spec_of(small_convolutional(), FlowHead(horizon=2, width=32), latent=False)))
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={})
    observations = [Observation(image=np.full((24, 24, 3), 90, dtype=np.uint8))]

    def first_answer(shard: int) -> np.ndarray:
        return policy_for_shard(str(tmp_path / "bundle"), shard)(observations, ["push"])[0].actions

    alone, other = first_answer(1), first_answer(0)
    np.testing.assert_array_equal(first_answer(1), alone)
    assert (other != alone).any()


@pytest.mark.parametrize("turn", [3, 6, 23])
def test_the_shown_episodes_are_of_many_kinds_and_splits(turn: int):
    shown = shown_episodes(180)
    assert len(shown) == len(set(shown)) == 12 and min(shown) >= 0 and max(shown) < 180
    assert len({index % turn for index in shown}) >= min(turn, 8)
    assert shown_episodes(5) == [0, 1, 2, 3, 4]
