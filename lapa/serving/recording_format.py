"""What recorded observations look like in an object store, and how they are read again.

WebDataset tars, `<12 characters of the policy's digest>/<when>-<server>-<number>.tar`. A sample is an episode, or a
piece of a long one: `<episode>-<piece>` with

.mp4                 the pictures as they were sent, in H.264 without loss
.actions.npy         n a, the first action of each chunk that was sent: what a dataset has at each timestep
.chunks.npy          n k a, the whole chunks
.proprioception.npy  n p, where the policy looks at it
.txt                 the instruction
.json                fps, num_frames, instruction, action_names; under `served` the model's name, version and digest,
                     the protocol, the episode, and for each row request_ids, times (since 1970) and clamped

So `lapactl data ingest` reads it as `{kind: webdataset, url: …}`. n rows, k chunk length, a actions, p proprioception.
"""

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import av
import fsspec
import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float32

from lapa import files
from lapa.data import video
from lapa.data.readers.base import list_files
from lapa.data.readers.webdataset import tar_samples
from lapa.errors import DataError, SourceError
from lapa.policy.manifest import MANIFEST_FILE, RECORDED_FILE, read_manifest
from lapa.types.episodes import Observation

NOMINAL_FPS = 10
"""Of the video file; the `.json` knows the true rate."""
LOSSLESS = {"qp": "0", "preset": "ultrafast", "tune": "zerolatency"}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One observation, and what was answered."""

    episode: str
    """Empty for one that stands alone."""
    protocol: str
    request_id: str
    time: float
    """Seconds since 1970."""
    observation: Observation
    instruction: str
    actions: Float32[np.ndarray, "k a"]
    """As they left."""
    clamped: int

    @property
    def num_bytes(self) -> int:
        return int(self.observation.image.nbytes + self.actions.nbytes)


class Piece:
    """An episode as far as it is known: pictures are encoded as they come, so that it stays small."""

    def __init__(self, first: Seen) -> None:
        self.rows: list[Seen] = []
        self.first, self._shape = _without_image(first), first.observation.image.shape
        self.began = self.touched = time.monotonic()
        self._video = io.BytesIO()
        self._container = av.open(self._video, "w", format="mp4", options={"fflags": "+bitexact"})
        # RGB, for the usual YUV would round colours and need even sides.
        self._stream = self._container.add_stream("libx264rgb", rate=NOMINAL_FPS, options=LOSSLESS)
        self._stream.pix_fmt, self._stream.thread_count = "rgb24", 1
        self._stream.height, self._stream.width = first.observation.image.shape[:2]

    def takes(self, seen: Seen) -> bool:
        """Whether it fits in: a sample has one instruction, and a video one size."""
        return (seen.instruction, seen.observation.image.shape) == (self.first.instruction, self._shape)

    def add(self, seen: Seen) -> None:
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(seen.observation.image), format="rgb24")
        picture.pts, picture.time_base = len(self.rows), Fraction(1, NOMINAL_FPS)
        self._container.mux(self._stream.encode(picture))
        self.touched = time.monotonic()
        # Its pixels are in the video.
        self.rows.append(_without_image(seen))

    @property
    def num_bytes(self) -> int:
        """Encoded so far."""
        return self._video.tell()

    def members(self, card: Mapping[str, Any]) -> dict[str, bytes]:
        """By ending. Ends the video: nothing can be added any more."""
        self._container.mux(self._stream.encode())
        self._container.close()
        rows, chunks = self.rows, np.stack([seen.actions for seen in self.rows]).astype(np.float32)
        members = {
            "mp4": self._video.getvalue(),
            "actions.npy": _npy(chunks[:, 0]),
            "chunks.npy": _npy(chunks),
            "txt": self.first.instruction.encode(),
            "json": json.dumps(self._described(card), sort_keys=True, ensure_ascii=False).encode(),
        }
        states = [seen.observation.proprioception for seen in rows if seen.observation.proprioception is not None]
        if states:
            members["proprioception.npy"] = _npy(np.stack(states).astype(np.float32))
        return members

    def _described(self, card: Mapping[str, Any]) -> dict[str, Any]:
        rows = self.rows
        seconds = rows[-1].time - rows[0].time
        return {
            "fps": min(max(round((len(rows) - 1) / seconds, 1), 0.1), 1000.0) if seconds > 0 else 1.0,
            "num_frames": len(rows),
            "instruction": self.first.instruction,
            "action_names": list(card["action_names"]),
            "served": {
                **{name: card[name] for name in ("name", "version", "digest")},
                "protocol": self.first.protocol,
                "episode": self.first.episode,
                "request_ids": [seen.request_id for seen in rows],
                "times": [seen.time for seen in rows],
                "clamped": [seen.clamped for seen in rows],
            },
        }


def pack_shard(samples: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """A tar of samples: members by ending, by key."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples.items():
            for ending, data in members.items():
                header = tarfile.TarInfo(f"{key}.{ending}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An episode or a piece of one, as it was stored."""

    name: str
    model: Mapping[str, str]
    """Name, version and digest of the policy that answered."""
    action_names: tuple[str, ...]
    rows: Callable[[], Iterator[Seen]]
    """Decodes; DataError names what is damaged."""


def read_samples(url: str) -> Iterator[Sample]:
    """Everything below a folder, or in one tar of it. DataError names a sample that is damaged or no recording."""
    tars = _tars(url)
    is_one = tars == [files.name_of(url)]
    for name in tars:
        place = url if is_one else files.join(url, name)
        try:
            with fsspec.open(place, "rb") as file:
                for key, members in tar_samples(file, place):
                    yield _sample(members, f"{place}#{key}")
        except SourceError as error:
            raise DataError(f"{error}") from error


def require_observations(url: str) -> None:
    """DataError where neither a recording lies there nor a bundle that carries observations."""
    if not files.exists(files.join(url, MANIFEST_FILE)):
        _tars(url)
    elif RECORDED_FILE not in read_manifest(url)["files"]:
        raise DataError(
            f"the bundle {url} carries no recorded observations (it has no {RECORDED_FILE}), so there is nothing to "
            "replay. Record some: `lapactl serve BUNDLE --record FOLDER`, let robots ask it, stop it, and name FOLDER "
            "here. Bundles carry eight since stage finetune writes them: finetune anew, and they have their own."
        )


def _tars(url: str) -> list[str]:
    tars = sorted(name for name in list_files(url) if name.endswith(".tar"))
    if not tars:
        raise DataError(
            f"{url} holds no .tar: name the folder that `lapactl serve BUNDLE --record FOLDER` wrote, or one below it. "
            "A server has written everything when it has stopped, and the first file after record_shard_seconds."
        )
    return tars


def _sample(members: Mapping[str, bytes], name: str) -> Sample:
    with _being_a_recording(name):
        described = json.loads(members["json"])
        model = {key: str(described["served"][key]) for key in ("name", "version", "digest")}
        names = tuple(str(part) for part in described["action_names"])
        return Sample(name=name, model=model, action_names=names, rows=partial(_rows, members, described, name))


def _rows(members: Mapping[str, bytes], described: Mapping[str, Any], name: str) -> Iterator[Seen]:
    served = described["served"]
    with _being_a_recording(name):
        chunks, states = _array(members["chunks.npy"]), None
        if "proprioception.npy" in members:
            states = _array(members["proprioception.npy"])
        for row, frame in enumerate(video.decode(members["mp4"], name=name)):
            yield Seen(
                episode=served["episode"],
                protocol=served["protocol"],
                request_id=served["request_ids"][row],
                time=served["times"][row],
                observation=Observation(image=frame, proprioception=None if states is None else states[row]),
                instruction=described["instruction"],
                actions=chunks[row],
                clamped=served["clamped"][row],
            )


@contextmanager
def _being_a_recording(name: str) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise DataError(f"{error}") from error
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"{name} is no recording of a policy server: {error!r}. Remove it, or name a folder that "
            "`lapactl serve --record` wrote to."
        ) from error


def _array(data: bytes) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def _without_image(seen: Seen) -> Seen:
    state = seen.observation.proprioception
    return replace(seen, observation=Observation(image=np.zeros((0, 0, 3), np.uint8), proprioception=state))


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
