"""The experts' episodes as files."""

from functools import partial
from pathlib import Path

import numpy as np

from lapa.config.data import MetaWorldSource
from lapa.envs.lerobot import Robot
from lapa.envs.metaworld.library import load_library
from lapa.envs.metaworld.rollouts import Rollout, expert_rollout, film
from lapa.envs.metaworld.tasks import INSTRUCTIONS
from lapa.envs.metaworld.world import ACTION_NAMES, FPS, STATE_NAMES
from lapa.envs.recording import PlayedEpisode, Recording, RecordingKind, RecordingSummary, first_success
from lapa.envs.recording import record as record_episodes

_VERSION = 1
_STREAMS: dict[RecordingKind, int] = {"videos": 0x3E7A0, "demonstrations": 0x3E7A1}
"""First word of every random seed: the two recordings share no episode."""
FIRST_STATE = 2**32
"""Initial states of recordings are numbered from here on, those of evaluations below."""


def record(folder: Path, source: MetaWorldSource, *, workers: int | None = None) -> RecordingSummary:
    """Record what the source asks for; a finished recording with the same settings is left as it is.

    Demonstrations hold actions (`ACTION_NAMES`, in [-1, 1]) and the hand's state (`STATE_NAMES`).
    MissingDependency where Meta-World, or the library it draws with, is not installed.
    """
    load_library()
    robot = Robot(name="sawyer", fps=FPS, camera=source.camera, action_names=ACTION_NAMES, state_names=STATE_NAMES)
    recording = Recording(
        kind=source.record,
        settings=source,
        version=_VERSION,
        episodes=source.episodes,
        image_size=source.image_size,
        robot=robot,
        play=partial(_play, source),
        episodes_per_process=16,
    )
    return record_episodes(folder, recording, workers=workers)


def _play(source: MetaWorldSource, index: int) -> PlayedEpisode:
    rollout, failed_attempts = _successful_rollout(source, index)
    return PlayedEpisode(
        instruction=INSTRUCTIONS[rollout.task],
        actions=rollout.actions,
        states=rollout.positions,
        failed_attempts=failed_attempts,
        film=partial(film, rollout, source.camera, source.image_size),
    )


def _successful_rollout(source: MetaWorldSource, index: int) -> tuple[Rollout, int]:
    """Episode `index`, and how many failures came before it; tasks take turns."""
    task = source.tasks[index % len(source.tasks)]

    def play(attempt: int) -> Rollout:
        rng = np.random.default_rng((_STREAMS[source.record], source.seed, index, attempt))
        return expert_rollout(task, int(rng.integers(FIRST_STATE, 2**62)), rng, noise=source.action_noise)

    return first_success(play)
