"""Meta-World as it really runs: worlds, pictures, recordings, the expert. Skipped where the option is not installed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import LeRobotSource, MetaWorldSource
from lapa.config.metaworld import METAWORLD_TASKS, MetaWorldCamera, MetaWorldTask
from lapa.config.stages import MetaWorldEvaluation
from lapa.data.readers.build import build_reader
from lapa.data.video import decode
from lapa.envs.evaluation import evaluate, expert_results
from lapa.envs.metaworld.camera import camera_for
from lapa.envs.metaworld.library import load_library
from lapa.envs.metaworld.recording import record
from lapa.envs.metaworld.rollouts import expert_rollout, film
from lapa.envs.metaworld.simulator import MetaWorldSimulator
from lapa.envs.metaworld.tasks import INSTRUCTIONS
from lapa.envs.metaworld.world import World
from lapa.errors import MissingDependency, PolicyError
from lapa.types.episodes import ActionChunk

try:
    load_library()
except MissingDependency as missing:
    pytest.skip(str(missing), allow_module_level=True)

FEW = MetaWorldSource(record="demonstrations", tasks=("reach", "faucet-open"), episodes=4, image_size=32)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def simulator(**settings) -> MetaWorldSimulator:
    return MetaWorldSimulator(config=MetaWorldEvaluation(**settings), image_size=32)


@pytest.mark.parametrize("task", METAWORLD_TASKS)
def test_a_seed_gives_the_same_episode_in_a_used_world_and_in_a_new_one(task: MetaWorldTask):
    used, new = World(task), World(task)
    used.reset(1)
    for _ in range(10):
        used.step(used.expert_action())
    used.reset(7)
    new.reset(7)
    for _ in range(10):
        action = new.expert_action()
        np.testing.assert_array_equal(used.expert_action(), action)
        used.step(action)
        new.step(action)
        np.testing.assert_array_equal(used.proprioception, new.proprioception)


def test_other_seeds_are_other_episodes():
    world = World("push")
    pictures = []
    for seed in (1, 2):
        world.reset(seed)
        pictures.append(camera_for(world, "workspace", 64).picture(world))
    assert (pictures[0] != pictures[1]).any()


def test_the_first_picture_shows_where_the_episode_begins():
    """The package itself shows window and goal where the episode before left them."""
    rng = np.random.default_rng(0)
    expert_rollout("window-close", 1, rng)
    first, second = film(expert_rollout("window-close", 2, rng), "workspace", 64)[:2].astype(int)
    changed = (np.abs(second - first).max(-1) > 30).mean()
    assert 0 < changed < 0.08  # the arm; a window that jumps would change 0.15


@pytest.mark.parametrize("view", ["workspace", "corner2"])
def test_a_hand_that_rises_rises_in_the_picture(view: MetaWorldCamera):
    world = World("faucet-open")
    world.reset(0)
    camera = camera_for(world, view, 128)

    def row_of_fingers() -> float:
        red, green, blue = camera.picture(world).astype(int).transpose(2, 0, 1)
        return float(np.nonzero((red < 120) & (green > 150) & (blue > 150))[0].mean())

    before = row_of_fingers()
    for _ in range(3):
        world.step(np.array([0, 0, 1, 0], dtype=np.float32))
    assert row_of_fingers() < before - 3


def test_the_experts_do_their_tasks():
    results = expert_results(simulator(episodes=10), workers=1)
    assert set(results.kinds) == set(METAWORLD_TASKS)
    assert results.success_rate >= 0.9


def test_a_policy_that_stands_still_fails_and_pictures_are_taken_when_asked():
    def still(observations, instructions):
        assert all(observation.image.shape == (32, 32, 3) for observation in observations)
        assert set(instructions) == {INSTRUCTIONS["drawer-open"], INSTRUCTIONS["reach"]}
        return [ActionChunk(actions=np.zeros((4, 4), dtype=np.float32)) for _ in observations]

    results = evaluate(still, simulator(episodes=4, max_steps=6, tasks=("drawer-open", "reach")), film=[3])
    assert not results.success.any() and set(results.steps) == {6}
    assert results.videos[3].shape == (7, 32, 32, 3)


def test_a_policy_of_another_robot_is_told_which_actions_are_meant():
    def planar(observations, instructions):
        return [ActionChunk(actions=np.zeros((1, 2), dtype=np.float32)) for _ in observations]

    with pytest.raises(PolicyError, match=r"Meta-World takes .*\(dx, dy, dz, gripper\)"):
        evaluate(planar, simulator(episodes=2, tasks=("reach",)))


def test_demonstrations_read_back_as_what_was_done(tmp_path: Path):
    summary = record(tmp_path, FEW)
    reader = build_reader(LeRobotSource(url=str(tmp_path)))
    episodes = [episode for item in reader.items() for episode in reader.read(item)]
    assert [episode.instruction for episode in episodes] == ["reach the goal", "open the faucet"] * 2
    assert sum(len(episode.actions) for episode in episodes) == summary.frames
    for episode in episodes:
        assert episode.action_names == ("dx", "dy", "dz", "gripper") and episode.fps == 20
        assert np.abs(episode.actions).max() <= 1
        frames = np.stack(list(episode.frames()))
        assert frames.shape == (len(episode.actions), 32, 32, 3)
        # The hand follows its target, a timestep late.
        moved = np.diff(episode.proprioception[:, :3], axis=0)[1:]
        assert np.corrcoef(moved.ravel(), episode.actions[:-2, :3].ravel())[0, 1] > 0.6


def test_recorded_actions_executed_again_end_in_success():
    rollout = expert_rollout("pick-place", 2**40, np.random.default_rng(0), noise=0.1)
    world = World("pick-place")
    world.reset(rollout.seed)
    for action in rollout.actions:
        assert not world.success
        world.step(action)
    assert rollout.success and world.success


def test_videos_hold_no_actions_and_know_their_instructions(tmp_path: Path):
    source = FEW.model_copy(update={"record": "videos"})
    summary = record(tmp_path, source)
    instructions = json.loads((tmp_path / "instructions.json").read_text())
    assert list(instructions.values()) == ["reach the goal", "open the faucet"] * 2
    assert sum(len(list(decode(tmp_path / name))) for name in instructions) == summary.frames
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".json"}


@pytest.mark.slow
def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path):
    source = FEW.model_copy(update={"tasks": ("reach",), "episodes": 32})
    record(tmp_path / "one", source, workers=1)
    record(tmp_path / "two", source, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_both_cameras_see_the_same_episode_from_elsewhere():
    rollout = expert_rollout("drawer-close", 3, np.random.default_rng(0))
    short = replace(rollout, actions=rollout.actions[:1])
    near, far = (film(short, view, 64) for view in ("workspace", "corner2"))
    assert near.shape == far.shape and np.abs(near.astype(int) - far).mean() > 20
