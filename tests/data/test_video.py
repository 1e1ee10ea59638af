"""Frames to H.264 and back."""

import io
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lapa.config.data import VideoEncoding
from lapa.data import video
from lapa.errors import SourceError
from tests.data.sources import CODECS, moving_square, truncate, write_video


def test_frames_survive_storage_closely():
    frames = moving_square(30, height=48, width=48)
    stored = video.encode_mp4(frames, 10, VideoEncoding())
    decoded = np.stack(list(video.decode(stored)))
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 4


@pytest.mark.parametrize("size", [16, 32])
def test_equal_frames_give_equal_bytes_whatever_was_encoded_before(size):
    """x264's mb-tree reads memory that earlier videos left behind, on frames this small."""
    frames = moving_square(22)[:, :size, :size]
    random = np.random.default_rng(0)
    stored = set()
    for _ in range(60):
        count, side = int(random.integers(3, 30)), 2 * int(random.integers(8, 40))
        video.encode_mp4(random.integers(0, 255, (count, side, side, 3), np.uint8), 10, VideoEncoding())
        stored.add(video.encode_mp4(frames, 10, VideoEncoding()))
    assert len(stored) == 1


@pytest.mark.parametrize(("fps", "seconds", "longest"), [(10, 1.0, 10), (10, 0.5, 5), (4, 1.0, 4)])
def test_key_frames_are_no_further_apart_than_asked(fps, seconds, longest):
    encoding = VideoEncoding(keyframe_seconds=seconds)
    stored = video.encode_mp4(np.zeros((30, 32, 32, 3), np.uint8), fps, encoding)
    with av.open(io.BytesIO(stored)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert np.diff(keys).tolist() == [longest] * ((30 - 1) // longest)


def test_a_fractional_frame_rate_is_kept():
    stored = video.encode_mp4(moving_square(5, height=32, width=32), 50 / 3, VideoEncoding())
    assert video.probe(stored).fps == pytest.approx(50 / 3)


@pytest.mark.parametrize("ending", CODECS)
def test_every_container_is_read(tmp_path, ending):
    frames = moving_square(10)
    path = write_video(tmp_path / f"clip.{ending}", frames)
    decoded = np.stack(list(video.decode(path)))
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 6
    assert video.probe(path).fps == pytest.approx(10)


@pytest.mark.parametrize("ending", CODECS)
def test_an_even_grid_keeps_every_frame_of_a_steady_video(tmp_path, ending):
    path = write_video(tmp_path / f"clip.{ending}", moving_square(25))
    plain = np.stack(list(video.decode(path)))
    steady = np.stack(list(video.decode(path, steady_fps=video.probe(path).fps)))
    assert np.array_equal(plain, steady)


def test_an_even_grid_holds_a_frame_that_was_shown_for_long(tmp_path):
    path = write_timed(tmp_path / "variable.mkv", [0, 100, 200, 600, 700])
    shown = list(video.decode(path, steady_fps=10))
    assert len(shown) == 8
    assert all(np.array_equal(shown[2], shown[held]) for held in (3, 4, 5))


def test_a_broken_timestamp_is_an_error_and_not_an_endless_video(tmp_path):
    path = write_timed(tmp_path / "broken.mkv", [0, 100, 200, 5_000_000, 5_000_100])
    shown = video.decode(path, name="broken.mkv", steady_fps=10)
    with pytest.raises(SourceError, match=r"broken\.mkv would show one frame from second 0\.2 to 5000\.0"):
        list(itertools.islice(shown, 1000))
    assert len(list(video.decode(path))) == 5, "its frames are fine"


def write_timed(path: Path, milliseconds: list[int]) -> Path:
    """A video of variable frame rate, with a frame at each of these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(moving_square(len(milliseconds)), milliseconds, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_video_cut_short_is_an_error_that_names_it(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving_square(40))
    truncate(path)
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        list(video.decode(path, name="clip.mp4"))


def test_a_video_whose_end_is_missing_is_an_error(tmp_path):
    """With the index at the front, such a file opens fine and just ends early."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    truncate(path, 0.6)
    with pytest.raises(SourceError, match=r"clip\.mp4 (declares 40 frames|is damaged after frame \d+)"):
        list(video.decode(path, name="clip.mp4"))


def test_a_file_that_is_no_video_is_an_error():
    with pytest.raises(SourceError, match=r"notes\.mp4 cannot be opened"):
        list(video.decode(b"these are notes", name="notes.mp4"))
