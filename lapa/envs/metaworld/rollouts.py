"""Whole episodes of an expert, and the film of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from lapa.config.metaworld import MetaWorldCamera, MetaWorldTask
from lapa.envs.metaworld.camera import camera_for
from lapa.envs.metaworld.world import ACTION_NAMES, borrow_world, give_back_world

MAX_STEPS = 60
"""Timesteps after which a recording counts as failed."""
_NOISE_MEMORY = 0.8


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One episode: `actions[t]` was chosen where the hand was at `positions[t]`; one last state follows."""

    task: MetaWorldTask
    seed: int
    """Of the initial state."""
    actions: Float32[np.ndarray, "t 4"]
    positions: Float32[np.ndarray, "t 4"]
    success: bool


def expert_rollout(task: MetaWorldTask, seed: int, rng: np.random.Generator, *, noise: float = 0.0) -> Rollout:
    """Let the expert work until it is done or `MAX_STEPS` have passed, disturbed by noise that it has to correct."""
    disturbance = correlated_noise(rng, noise, MAX_STEPS)
    world = borrow_world(task)
    world.reset(seed)
    actions: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    while not world.success and len(actions) < MAX_STEPS:
        # Clipped before it is executed: the recording says exactly what was done.
        action = np.clip(world.expert_action() + disturbance[len(actions)], -1.0, 1.0).astype(np.float32)
        actions.append(action)
        positions.append(world.proprioception)
        world.step(action)
    give_back_world(world)
    return Rollout(
        task=task, seed=seed, actions=np.stack(actions), positions=np.stack(positions), success=world.success
    )


def film(rollout: Rollout, view: MetaWorldCamera, image_size: int) -> UInt8[np.ndarray, "f h w 3"]:
    """Its t + 1 pictures. Simulated again: that is cheap beside drawing, and failed attempts are never drawn."""
    world = borrow_world(rollout.task)
    camera = camera_for(world, view, image_size)
    world.reset(rollout.seed)
    pictures = [camera.picture(world)]
    for action in rollout.actions:
        world.step(action)
        pictures.append(camera.picture(world))
    give_back_world(world)
    return np.stack(pictures)


def correlated_noise(rng: np.random.Generator, scale: float, length: int) -> Float32[np.ndarray, "t 4"]:
    """Standard deviation `scale` per dimension, correlation 0.8 per timestep, as on the tabletop."""
    fresh = rng.standard_normal((length, len(ACTION_NAMES)))
    noise = fresh.copy()
    for t in range(1, length):
        noise[t] = _NOISE_MEMORY * noise[t - 1] + np.sqrt(1 - _NOISE_MEMORY**2) * fresh[t]
    scaled: np.ndarray = (scale * noise).astype(np.float32)
    return scaled
