"""What of Meta-World needs neither the package nor its library: settings, instructions, noise, and what is missing."""

import os

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from lapa.config.data import IngestConfig, MetaWorldSource, SourceConfig
from lapa.config.metaworld import METAWORLD_TASKS
from lapa.config.presets import metaworld_smoke
from lapa.config.stages import EvaluateConfig, MetaWorldEvaluation, TabletopEvaluation
from lapa.envs.build import build_simulator
from lapa.envs.metaworld import library
from lapa.envs.metaworld.recording import FIRST_STATE
from lapa.envs.metaworld.rollouts import correlated_noise
from lapa.envs.metaworld.tasks import INSTRUCTIONS
from lapa.errors import MissingDependency
from lapa.stages.plan import dataset_url


def test_every_task_has_an_instruction_of_its_own():
    assert tuple(INSTRUCTIONS) == METAWORLD_TASKS
    assert len(set(INSTRUCTIONS.values())) == len(METAWORLD_TASKS) == 10
    assert all(text.replace(" ", "").isalpha() and text.islower() for text in INSTRUCTIONS.values())


def test_the_kind_chooses_the_simulator():
    for kind, config in {"metaworld": MetaWorldEvaluation(), "tabletop": TabletopEvaluation()}.items():
        assert EvaluateConfig.model_validate({"simulator": {"kind": kind}}).simulator == config
    source = TypeAdapter(SourceConfig).validate_python({"kind": "metaworld", "record": "videos", "episodes": 3})
    assert source == MetaWorldSource(record="videos", episodes=3)


@pytest.mark.parametrize("change", [{"tasks": ["juggle"]}, {"tasks": []}, {"max_steps": 121}, {"camera": "moon"}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValidationError):
        MetaWorldEvaluation.model_validate(change)


def test_a_simulator_without_its_package_still_tells_what_it_would_do():
    simulator = build_simulator(MetaWorldEvaluation(episodes=7), image_size=64)
    assert (simulator.num_episodes, simulator.fps) == (7, 20.0)
    assert simulator.action_names == ("dx", "dy", "dz", "gripper")


def test_evaluations_and_recordings_share_no_initial_state():
    last = MetaWorldEvaluation(seed=2**31 - 1, episodes=100_000)
    assert last.seed + last.episodes < FIRST_STATE


def test_recordings_are_named_by_simulator_and_kind():
    run = metaworld_smoke()
    assert isinstance(run.videos, IngestConfig) and isinstance(run.robot, IngestConfig)
    assert "datasets/metaworld-videos-" in dataset_url(run, run.videos)
    assert "datasets/metaworld-demonstrations-" in dataset_url(run, run.robot)


def test_noise_has_the_scale_it_is_asked_for_and_is_correlated_over_timesteps():
    noise = correlated_noise(np.random.default_rng(0), 0.2, 20_000)
    assert noise.shape == (20_000, 4) and noise.dtype == np.float32
    np.testing.assert_allclose(noise.std(0), 0.2, rtol=0.05)
    correlations = [np.corrcoef(noise[1:, i], noise[:-1, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(correlations, 0.8, atol=0.03)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'lapa\[metaworld\]'"):
        library.load_library.__wrapped__()


@pytest.mark.skipif("sys.platform != 'linux'", reason="other systems draw without these libraries")
class TestRenderers:
    """The library that draws without a display."""

    def choose(self, monkeypatch, found: set[str], wanted: str | None) -> str:
        monkeypatch.setattr(library, "find_library", lambda name: name if name in found else None)
        monkeypatch.setenv("MUJOCO_GL", wanted or "")
        library.choose_renderer()
        return os.environ["MUJOCO_GL"]

    def test_osmesa_is_preferred_and_egl_does_as_well(self, monkeypatch):
        assert self.choose(monkeypatch, {"OSMesa", "EGL"}, None) == "osmesa"
        assert self.choose(monkeypatch, {"EGL"}, None) == "egl"

    def test_the_users_choice_wins(self, monkeypatch):
        assert self.choose(monkeypatch, {"OSMesa", "EGL"}, "egl") == "egl"
        assert self.choose(monkeypatch, set(), "glfw") == "glfw"

    def test_a_missing_library_is_named_with_its_package(self, monkeypatch):
        with pytest.raises(MissingDependency, match=r"libOSMesa or libEGL.*apt-get install libosmesa6"):
            self.choose(monkeypatch, set(), None)
        with pytest.raises(MissingDependency, match=r"libEGL \(MUJOCO_GL=egl\).*libegl1"):
            self.choose(monkeypatch, {"OSMesa"}, "egl")
