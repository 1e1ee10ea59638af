"""From real recordings to results, through the stage programs and the examples that users start from."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lapa.__main__ import main
from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.labels import Labels
from lapa.policy.bundle import load_bundle
from lapa.stages.plan import dataset_url, finished, stages_of
from lapa.types.episodes import Observation

FEW_STEPS = (
    *(f"{stage}.fit.{name}" for stage in ("laq", "pretrain", "finetune") for name in ("steps=6", "validate_every=6")),
    "laq.fit.batch_size=8", "pretrain.fit.batch_size=8", "finetune.fit.batch_size=8",
)  # fmt: skip


def example(repository: Path, name: str) -> str:
    return str(repository / "examples" / f"{name}.yaml")


def made(source: str, *settings: str) -> RunConfig:
    """Every stage of the run, one after the other in this process."""
    overrides = [f"--set={setting}" for setting in settings]
    run = load_run(source, settings)
    for stage in stages_of(run):
        assert main([stage, source, *overrides]) == 0
    return run


def both(url: Path) -> tuple[str, str]:
    return f"videos.source.url={url}", f"robot.source.url={url}"


def metrics_of(run: RunConfig, stage: str) -> dict[str, float]:
    result = finished(run, stage)
    assert result is not None
    return result.metrics


def act_once(run: RunConfig) -> np.ndarray:
    """The policy bundle's answer to a grey frame, and to joints at rest where it looks at them."""
    policy = load_bundle(finished(run, "finetune").outputs["policy"].url)
    side = Dataset.open(dataset_url(run, run.robot)).info.image_size
    state = np.zeros(dims, np.float32) if (dims := policy.spec.proprioception_dims) else None
    observation = Observation(image=np.full((side, side, 3), 128, np.uint8), proprioception=state)
    return policy.act([observation], ["put carrot on plate"])[0].actions


def test_bridge_episodes_become_a_policy_with_a_held_out_error(shared_data, repository, tmp_path):
    bridge = shared_data / "bridge-octo-debug" / "bridge_dataset" / "1.0.0"
    run = made(example(repository, "bridge"), f"work_url={tmp_path}", *both(bridge), *FEW_STEPS)
    info = Dataset.open(dataset_url(run, run.robot)).info
    assert (info.num_episodes, info.num_frames, info.action_dims, info.fps) == (25, 250, 7, (5.0,))
    labels = Labels.open(finished(run, "label").outputs["labels"].url)
    # 0.6 s at 5 Hz are 3 timesteps: 7 of an episode's 10 frames have a future inside it.
    assert labels.codes_of(0).shape == (7, run.laq.model.codes_per_pair)
    assert metrics_of(run, "evaluate")["held_out/timesteps"] == 50
    assert np.isfinite(metrics_of(run, "evaluate")["held_out/ratio"])
    actions = act_once(run)
    assert actions.shape == (4, 7) and np.isfinite(actions).all()


@pytest.mark.slow
def test_bridge_actions_of_held_out_episodes_are_predicted_better_than_by_the_mean(shared_data, repository, tmp_path):
    bridge = shared_data / "bridge-octo-debug" / "bridge_dataset" / "1.0.0"
    run = made(example(repository, "bridge"), f"work_url={tmp_path}", *both(bridge))
    assert metrics_of(run, "label")["videos/joint_perplexity"] > 4
    assert metrics_of(run, "evaluate")["held_out/ratio"] < 1


@pytest.mark.slow
def test_raw_robot_clips_of_different_frame_rates_get_labels_over_the_same_seconds(shared_data, repository, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name, clip in {
        "move_the_can_1": "bridge_real_1",
        "move_the_pot_1": "bridge_real_2",
        "pick_up_the_coke_can_1": "rt1_real_standing_coke_can_1",
    }.items():
        shutil.copyfile(shared_data / "simpler-real-rollouts" / f"{clip}.mp4", clips / f"{name}.mp4")
    settings = (f"work_url={tmp_path / 'work'}", f"videos.source.url={clips}", *FEW_STEPS[:4], *FEW_STEPS[6:8])
    run = made(example(repository, "raw-videos"), *settings)
    dataset = Dataset.open(dataset_url(run, run.videos))
    assert set(dataset.index["instruction"].to_pylist()) == {"move the can", "move the pot", "pick up the coke can"}
    labels = Labels.open(finished(run, "label").outputs["labels"].url)
    frames = dataset.index["num_frames"].to_pylist()
    windows = [count - len(labels.codes_of(row)) for row, count in enumerate(frames)]
    assert windows == [3, 3, 10]  # 0.6 s at 5, 5 and 16.67 frames a second
    assert finished(run, "pretrain") is not None and run.finetune is None


@pytest.mark.slow
def test_one_long_human_video_is_enough_to_learn_and_label(shared_data, repository, tmp_path):
    hands = shared_data / "human-hand-video" / "human_hand_video.mp4"
    settings = (f"work_url={tmp_path}", f"videos.source.url={hands}", "laq.window_seconds=2.4", "pretrain=null")
    run = made(example(repository, "raw-videos"), *settings, *FEW_STEPS[:2], FEW_STEPS[6])
    labels = Labels.open(finished(run, "label").outputs["labels"].url)
    assert len(labels.codes_of(0)) == 621 - 72  # 2.4 s at 30 frames a second


@pytest.mark.slow
def test_a_humanoid_of_44_action_dimensions_goes_the_same_way(shared_data, repository, tmp_path):
    gr1 = shared_data / "gr1-robosim-picknplace"
    run = made(example(repository, "lerobot"), f"work_url={tmp_path}", *both(gr1), *FEW_STEPS)
    info = Dataset.open(dataset_url(run, run.robot)).info
    assert (info.num_episodes, info.action_dims, info.instructions) == (5, 44, 5)
    assert np.isfinite(metrics_of(run, "evaluate")["held_out/ratio"])
    assert act_once(run).shape == (8, 44)
