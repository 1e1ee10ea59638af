"""An expert's episodes as files that any reader understands: a folder of videos, or a LeRobot dataset.

An episode is a pure function of the recording's settings and its number, so the files do not depend on the
number of processes, and an interrupted recording goes on where it stopped.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, assert_never

import numpy as np
from jaxtyping import Float32, UInt8

from lapa import timesheet
from lapa.config.base import Config
from lapa.config.data import VideoEncoding
from lapa.data.pool import worker_pool
from lapa.data.video import encode_mp4
from lapa.envs.lerobot import LeRobotWriter, Robot, image_statistics
from lapa.errors import ConfigError
from lapa.files import digest, read_json, write_bytes, write_json
from lapa.process import available_cores

logger = logging.getLogger(__name__)

ENCODING = VideoEncoding(crf=12, keyframe_seconds=1.0, preset="superfast")
"""Better and faster than usual: small motions must survive in few pixels, and the clips are tiny anyway."""
MANIFEST = "recording.json"

MAX_ATTEMPTS = 1000
"""Experts succeed nearly always: one that fails so often at one episode meets noise that it cannot correct."""

RecordingKind = Literal["videos", "demonstrations"]


class Attempt(Protocol):
    """An episode of an expert, whichever simulator's."""

    @property
    def success(self) -> bool: ...


AnyAttempt = TypeVar("AnyAttempt", bound=Attempt)


@dataclass(frozen=True, kw_only=True)
class PlayedEpisode:
    """What an expert did, before it is drawn."""

    instruction: str
    actions: Float32[np.ndarray, "t a"]
    states: Float32[np.ndarray, "t p"]
    """Where the robot was when each action was chosen."""
    failed_attempts: int
    film: Callable[[], UInt8[np.ndarray, "f h w 3"]]
    """Draws the t + 1 frames; the last one follows the last action."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is to be recorded. Picklable."""

    kind: RecordingKind
    settings: Config
    """Everything that decides the episodes, beside the code."""
    version: int
    """Raised when the same settings would make other episodes."""
    episodes: int
    image_size: int
    robot: Robot
    play: Callable[[int], PlayedEpisode]
    """Episode number -> a success of the expert."""
    episodes_per_process: int
    """Starting a process costs as much as recording about this many episodes."""

    @property
    def fingerprint(self) -> str:
        parts = [self.kind, self.version, self.settings.model_dump(mode="json"), ENCODING.model_dump(mode="json")]
        return digest(json.dumps(parts))

    def video_path(self, episode: int) -> str:
        match self.kind:
            case "videos":
                return f"episode_{episode:06d}.mp4"
            case "demonstrations":
                return self.robot.video_path(episode)
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, kw_only=True)
class RecordingSummary:
    """What a recording holds."""

    episodes: int
    frames: int
    failed_attempts: int
    """Episodes that the expert failed; they were thrown away and drawn anew."""


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    instruction: str
    num_frames: int
    failed_attempts: int
    actions: Float32[np.ndarray, "t a"]
    states: Float32[np.ndarray, "t p"]
    image_statistics: dict[str, Any] | None


def record(folder: Path, recording: Recording, *, workers: int | None = None) -> RecordingSummary:
    """Record into `folder`; a finished recording with the same settings is left as it is.

    Videos: `episode_000000.mp4` … without actions, and `instructions.json` with the instruction of each file.
    Demonstrations: a LeRobot v2.1 dataset. Raises ConfigError where the folder holds something else.
    """
    finished = _begin(folder, recording)
    if finished:
        return finished
    recorded = list(_record_all(folder, recording, workers))
    match recording.kind:
        case "videos":
            sidecar = {recording.video_path(index): episode.instruction for index, episode in enumerate(recorded)}
            write_json(str(folder / "instructions.json"), sidecar)
        case "demonstrations":
            writer = LeRobotWriter(folder, recording.robot, image_size=recording.image_size)
            for episode in recorded:
                assert episode.image_statistics is not None
                writer.add(episode.instruction, episode.actions, episode.states, episode.image_statistics)
            writer.finish()
        case _:
            assert_never(recording.kind)
    return _finish(folder, recording, recorded)


def first_success(attempt: Callable[[int], AnyAttempt]) -> tuple[AnyAttempt, int]:
    """The first success of `attempt(0)`, `attempt(1)`, …, and how many failures came before it.

    Raises ConfigError where there is none within `MAX_ATTEMPTS`.
    """
    for number in range(MAX_ATTEMPTS):
        played = attempt(number)
        if played.success:
            return played, number
    raise ConfigError(
        f"The expert failed {MAX_ATTEMPTS} times at one episode: its actions are disturbed more than it can correct. "
        "Lower the source's action_noise (0.2 by default)."
    )


def _begin(folder: Path, recording: Recording) -> RecordingSummary | None:
    """The summary of a finished recording, or None after making the folder ready to record (on)."""
    manifest = folder / MANIFEST
    if manifest.exists():
        found = read_json(str(manifest))
        if found["digest"] == recording.fingerprint:
            return RecordingSummary(**found["summary"]) if found["summary"] else None
        logger.info("event=recording-replaced folder=%s reason=other-settings", folder)
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds files that are no {recording.robot.name} recording. Choose an empty folder.")
    _write_manifest(folder, recording, None)
    return None


def _finish(folder: Path, recording: Recording, recorded: list[_Recorded]) -> RecordingSummary:
    summary = RecordingSummary(
        episodes=len(recorded),
        frames=sum(episode.num_frames for episode in recorded),
        failed_attempts=sum(episode.failed_attempts for episode in recorded),
    )
    _write_manifest(folder, recording, summary)
    logger.info(
        "event=recorded folder=%s record=%s episodes=%d frames=%d failed_attempts=%d",
        folder, recording.kind, summary.episodes, summary.frames, summary.failed_attempts,
    )  # fmt: skip
    return summary


def _write_manifest(folder: Path, recording: Recording, summary: RecordingSummary | None) -> None:
    content = {
        "digest": recording.fingerprint,
        "source": recording.settings.model_dump(mode="json"),
        "summary": asdict(summary) if summary else None,
    }
    write_json(str(folder / MANIFEST), content)


def _record_all(folder: Path, recording: Recording, workers: int | None) -> Iterator[_Recorded]:
    """Every episode in order, its video written."""
    record_one = partial(_record_episode, folder, recording)
    processes = min(workers or available_cores(), recording.episodes // recording.episodes_per_process)
    if processes <= 1:
        yield from map(record_one, range(recording.episodes))
        return
    remedy = "Free some memory and run the same command again; finished videos are kept."
    with worker_pool(processes, work=f"the {recording.robot.name} recording", remedy=remedy) as pool:
        yield from pool.map(record_one, range(recording.episodes), chunksize=16)


@timesheet.part("record")
def _record_episode(folder: Path, recording: Recording, index: int) -> _Recorded:
    played = recording.play(index)
    path = folder / recording.video_path(index)
    is_demonstration = recording.kind == "demonstrations"
    statistics = None
    # In demonstrations every frame has an action; the state after the last one has none.
    num_frames = len(played.actions) + (not is_demonstration)
    if is_demonstration or not path.exists():
        frames = played.film()[:num_frames]
        statistics = image_statistics(frames) if is_demonstration else None
        if not path.exists():
            write_bytes(str(path), encode_mp4(frames, recording.robot.fps, ENCODING))
    return _Recorded(
        instruction=played.instruction,
        num_frames=num_frames,
        failed_attempts=played.failed_attempts,
        actions=played.actions,
        states=played.states,
        image_statistics=statistics,
    )
