"""Baselines that learn actions say what they need where a dataset has none."""

from pathlib import Path

import numpy as np
import pytest

from lapa.config.inverse_dynamics import InverseDynamicsConfig
from lapa.config.load import load_run
from lapa.config.stages import ActionSupervision, LaqConfig, ProbeGate
from lapa.data.dataset import Dataset
from lapa.data.splits import split_rows
from lapa.data.stream import episode_arrays
from lapa.data.windows import mean_actions
from lapa.errors import DataError
from lapa.stages.inverse_dynamics import ignored_settings, inverse_dynamics_spec
from lapa.stages.pretrain import main
from tests.builders import make_dataset

CONFIG = LaqConfig(
    labeller="inverse-dynamics", window_seconds=0.3, inverse_dynamics=InverseDynamicsConfig(width=8, blocks=(1, 1))
)


def test_recorded_actions_are_asked_of_videos_that_have_them(tmp_path: Path):
    videos = make_dataset(tmp_path / "videos", episodes=2, frames=8, actions=False)
    settings = [
        f"work_url={tmp_path / 'work'}", "tracking.enabled=false", "videos.kind=dataset", f"videos.url={videos}",
        "pretrain.target.kind=recorded-actions",
    ]  # fmt: skip
    with pytest.raises(DataError, match=rf"{videos} has no actions, which .*recorded-actions learns\. Use a videos"):
        main(load_run("tabletop-smoke", settings))


def test_inverse_dynamics_is_not_learned_from_episodes_without_actions(tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=2, frames=8, actions=False))
    with pytest.raises(DataError, match=r"has no actions, which laq\.labeller=inverse-dynamics learns"):
        inverse_dynamics_spec(CONFIG, dataset)


def test_settings_of_the_latent_action_model_that_it_ignores_are_named():
    assert ignored_settings(CONFIG) == []
    both = CONFIG.model_copy(update={"gate": ProbeGate(), "supervision": ActionSupervision()})
    assert ignored_settings(both) == ["laq.gate", "laq.supervision"]


def test_its_statistics_are_those_of_the_mean_action_in_the_training_episodes(tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", frames=[8, 12, 16, 10, 14]))
    spec = inverse_dynamics_spec(CONFIG, dataset)
    rows = split_rows(dataset, CONFIG.stream.validation_share)[0]
    assert len(rows) < 5
    motion = np.concatenate([mean_actions(episode_arrays(dataset, row)["actions"], 3) for row in rows])
    assert spec.action_names == ("x", "y", "z")
    np.testing.assert_allclose(spec.action_mean, motion.mean(0), rtol=1e-5)
    np.testing.assert_allclose(spec.action_std, motion.std(0), rtol=1e-5)


def test_a_mean_action_is_over_the_timesteps_between_both_frames():
    actions = np.array([[0.0], [1.0], [2.0], [6.0], [100.0]], np.float32)
    assert mean_actions(actions, 3).tolist() == [[1.0], [3.0]]
    assert mean_actions(actions[:3], 3).shape == mean_actions(actions[:2], 3).shape == (0, 1)
