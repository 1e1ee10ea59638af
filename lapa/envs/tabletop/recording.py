"""The oracle's episodes as files: `lapa.envs.recording` writes them, and says how."""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lapa.config.data import TabletopSource
from lapa.envs.recording import PlayedEpisode, Recording, RecordingKind, RecordingSummary, first_success
from lapa.envs.recording import record as record_episodes
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.episode import distraction_of
from lapa.envs.tabletop.rollouts import MAX_STEPS, Rollout, play_oracle, random_start
from lapa.envs.tabletop.splits import cells

_VERSION = 1
_STREAMS: dict[RecordingKind, int] = {"videos": 0x7AB1E, "demonstrations": 0x7AB1F}
"""First word of every random seed: the two recordings share no episode, nor one with an evaluation."""
_DISTRACTION_STREAM = 0xD157
"""Last word of the seed of what disturbs the pictures: the episodes are those without disturbance."""


def record(folder: Path, source: TabletopSource, *, workers: int | None = None) -> RecordingSummary:
    """Record what the source asks for; a finished recording with the same settings is left as it is.

    Demonstrations hold actions in [-1, 1], the pusher's position, and one camera named `top`.
    """
    recording = Recording(
        kind=source.record,
        settings=source,
        version=_VERSION,
        episodes=source.episodes,
        image_size=source.image_size,
        robot=embodiment_of(source.scene.world).robot,
        play=partial(_play, source),
        episodes_per_process=64,
    )
    return record_episodes(folder, recording, workers=workers)


def _play(source: TabletopSource, index: int) -> PlayedEpisode:
    rollout, failed_attempts = successful_rollout(source, index)
    embodiment = embodiment_of(source.scene.world)
    return PlayedEpisode(
        instruction=rollout.start.instruction,
        actions=rollout.actions,
        states=np.stack([embodiment.proprioception(state) for state in rollout.states[:-1]]),
        failed_attempts=failed_attempts,
        film=partial(_film, source, index, rollout),
    )


def _film(source: TabletopSource, index: int, rollout: Rollout) -> UInt8[np.ndarray, "f h w 3"]:
    scene = source.scene
    rng = np.random.default_rng((_STREAMS[source.record], source.seed, index, _DISTRACTION_STREAM))
    distraction = distraction_of(scene, rng)
    return np.stack(
        [
            draw(state, source.image_size, world=scene.world, disturbance=distraction.next() if distraction else None)
            for state in rollout.states
        ]
    )


def successful_rollout(source: TabletopSource, index: int) -> tuple[Rollout, int]:
    """Episode `index`, and how many failures came before it; task kinds and splits take turns."""
    scene, embodiment = source.scene, embodiment_of(source.scene.world)
    asked = cells(source.tasks, scene.objects)

    def play(attempt: int) -> Rollout:
        rng = np.random.default_rng((_STREAMS[source.record], source.seed, index, attempt))
        start = random_start(rng, asked[index % len(asked)], scene.objects, source.tasks.wordings)
        return play_oracle(
            start,
            rng,
            physics=embodiment.physics,
            noise=source.action_noise,
            max_steps=embodiment.step_limit(MAX_STEPS),
        )

    return first_success(play)
