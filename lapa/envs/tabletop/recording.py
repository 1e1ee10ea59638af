"""The oracle's episodes as files that any reader understands: a folder of videos, or a LeRobot dataset.

An episode is a pure function of the source's settings and its number, so the files do not depend on the
number of processes, and an interrupted recording goes on where it stopped.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from jaxtyping import Float32, UInt8

from lapa.config.data import TabletopSource, VideoEncoding
from lapa.data.pool import available_cores, worker_pool
from lapa.data.video import encode_mp4
from lapa.envs import lerobot
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.episode import distraction_of
from lapa.envs.tabletop.rollouts import MAX_STEPS, Rollout, play_oracle, random_start
from lapa.envs.tabletop.splits import cells
from lapa.envs.tabletop.world import State
from lapa.errors import ConfigError
from lapa.files import digest, read_json, write_bytes, write_json

logger = logging.getLogger(__name__)

ENCODING = VideoEncoding(crf=12, keyframe_seconds=1.0, preset="superfast")
"""Better and faster than usual: small motions must survive at 48 pixels, and the clips are tiny anyway."""
MANIFEST = "recording.json"

_VERSION = 1
"""Raise it when the same settings would make other episodes."""
_STREAMS: dict[Literal["videos", "demonstrations"], int] = {"videos": 0x7AB1E, "demonstrations": 0x7AB1F}
"""First word of every random seed: the two recordings share no episode, nor one with an evaluation."""
_DISTRACTION_STREAM = 0xD157
"""Last word of the seed of what disturbs the pictures: the episodes are those without disturbance."""
_EPISODES_PER_PROCESS = 64
"""Starting a process costs as much as recording about this many episodes."""


@dataclass(frozen=True, kw_only=True)
class RecordingSummary:
    """What a recording holds."""

    episodes: int
    frames: int
    failed_attempts: int
    """Episodes that the oracle failed; they were thrown away and drawn anew."""


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    instruction: str
    num_frames: int
    failed_attempts: int
    actions: Float32[np.ndarray, "t 2"]
    positions: Float32[np.ndarray, "t 2"]
    image_statistics: dict[str, Any] | None


def record(folder: Path, source: TabletopSource, *, workers: int | None = None) -> RecordingSummary:
    """Record what the source asks for; a finished recording with the same settings is left as it is."""
    match source.record:
        case "videos":
            return record_videos(folder, source, workers=workers)
        case "demonstrations":
            return record_demonstrations(folder, source, workers=workers)
        case _:
            assert_never(source.record)


def record_videos(folder: Path, source: TabletopSource, *, workers: int | None = None) -> RecordingSummary:
    """`episode_000000.mp4` … without actions, and `instructions.json` with the instruction of each file."""
    source = source.model_copy(update={"record": "videos"})
    finished = _begin(folder, source)
    if finished:
        return finished
    recorded = list(_record_all(folder, _video_name, source, workers))
    sidecar = {_video_name(index): episode.instruction for index, episode in enumerate(recorded)}
    write_json(str(folder / "instructions.json"), sidecar)
    return _finish(folder, source, recorded)


def record_demonstrations(folder: Path, source: TabletopSource, *, workers: int | None = None) -> RecordingSummary:
    """A LeRobot v2.1 dataset: actions in [-1, 1], the pusher's position, one camera named `top`."""
    source = source.model_copy(update={"record": "demonstrations"})
    finished = _begin(folder, source)
    if finished:
        return finished
    robot = embodiment_of(source.scene.world).robot
    writer = lerobot.LeRobotWriter(folder, robot, image_size=source.image_size)
    recorded = []
    for episode in _record_all(folder, robot.video_path, source, workers):
        assert episode.image_statistics is not None
        writer.add(episode.instruction, episode.actions, episode.positions, episode.image_statistics)
        recorded.append(episode)
    writer.finish()
    return _finish(folder, source, recorded)


def _begin(folder: Path, source: TabletopSource) -> RecordingSummary | None:
    """The summary of a finished recording, or None after making the folder ready to record (on)."""
    manifest = folder / MANIFEST
    if manifest.exists():
        found = read_json(str(manifest))
        if found["digest"] == _fingerprint(source):
            return RecordingSummary(**found["summary"]) if found["summary"] else None
        logger.info("event=recording-replaced folder=%s reason=other-settings", folder)
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds files that are no tabletop recording. Choose an empty folder.")
    _write_manifest(folder, source, None)
    return None


def _finish(folder: Path, source: TabletopSource, recorded: list[_Recorded]) -> RecordingSummary:
    summary = RecordingSummary(
        episodes=len(recorded),
        frames=sum(episode.num_frames for episode in recorded),
        failed_attempts=sum(episode.failed_attempts for episode in recorded),
    )
    _write_manifest(folder, source, summary)
    logger.info(
        "event=recorded folder=%s record=%s episodes=%d frames=%d failed_attempts=%d",
        folder, source.record, summary.episodes, summary.frames, summary.failed_attempts,
    )  # fmt: skip
    return summary


def _write_manifest(folder: Path, source: TabletopSource, summary: RecordingSummary | None) -> None:
    content = {
        "digest": _fingerprint(source),
        "source": source.model_dump(mode="json"),
        "summary": asdict(summary) if summary else None,
    }
    write_json(str(folder / MANIFEST), content)


def _fingerprint(source: TabletopSource) -> str:
    return digest(json.dumps([_VERSION, source.model_dump(mode="json"), ENCODING.model_dump(mode="json")]))


def _video_name(index: int) -> str:
    return f"episode_{index:06d}.mp4"


def _record_all(
    folder: Path, path_of: Callable[[int], str], source: TabletopSource, workers: int | None
) -> Iterator[_Recorded]:
    """Every episode in order, its video written."""
    record_one = partial(_record_episode, folder, path_of, source)
    processes = min(workers or available_cores(), source.episodes // _EPISODES_PER_PROCESS)
    if processes <= 1:
        yield from map(record_one, range(source.episodes))
        return
    remedy = "Free some memory and run the same command again; finished videos are kept."
    with worker_pool(processes, work="the tabletop's recording", remedy=remedy) as pool:
        yield from pool.map(record_one, range(source.episodes), chunksize=16)


def _record_episode(folder: Path, path_of: Callable[[int], str], source: TabletopSource, index: int) -> _Recorded:
    rollout, failed_attempts = successful_rollout(source, index)
    embodiment = embodiment_of(source.scene.world)
    # In demonstrations every frame has an action; the state after the last one has none.
    frames = _frames(source, index, rollout.states if source.record == "videos" else rollout.states[:-1])
    path = folder / path_of(index)
    if not path.exists():
        write_bytes(str(path), encode_mp4(frames, embodiment.fps, ENCODING))
    return _Recorded(
        instruction=rollout.start.instruction,
        num_frames=len(frames),
        failed_attempts=failed_attempts,
        actions=rollout.actions,
        positions=np.stack([embodiment.proprioception(state) for state in rollout.states[:-1]]),
        image_statistics=lerobot.image_statistics(frames) if source.record == "demonstrations" else None,
    )


def _frames(source: TabletopSource, index: int, states: Sequence[State]) -> UInt8[np.ndarray, "t h w 3"]:
    scene = source.scene
    rng = np.random.default_rng((_STREAMS[source.record], source.seed, index, _DISTRACTION_STREAM))
    distraction = distraction_of(scene, rng)
    return np.stack(
        [
            draw(state, source.image_size, world=scene.world, disturbance=distraction.next() if distraction else None)
            for state in states
        ]
    )


def successful_rollout(source: TabletopSource, index: int) -> tuple[Rollout, int]:
    """Episode `index`, and how many failures came before it; task kinds and splits take turns."""
    scene, embodiment = source.scene, embodiment_of(source.scene.world)
    asked = cells(source.tasks, scene.objects)
    attempt = 0
    while True:
        rng = np.random.default_rng((_STREAMS[source.record], source.seed, index, attempt))
        start = random_start(rng, asked[index % len(asked)], scene.objects, source.tasks.wordings)
        rollout = play_oracle(
            start,
            rng,
            physics=embodiment.physics,
            noise=source.action_noise,
            max_steps=embodiment.step_limit(MAX_STEPS),
        )
        if rollout.success:
            return rollout, attempt
        attempt += 1
