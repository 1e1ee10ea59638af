"""Videos that real folders hold: each is read, or named with what is wrong and what to do."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lapa.config.data import IngestConfig, VideoFolderSource
from lapa.data import video
from lapa.data.ingest import ingest
from lapa.errors import SourceError
from tests.data.sources import moving_square, truncate, write_video

IDENTITY = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
TURNED = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000 00000000 00000000 00000000 40000000")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("not a video at all\n" * 50)


def audio_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut_short(path: Path) -> None:
    one_frame(path)
    truncate(path, 0.5)


def not_copied(path: Path) -> None:
    path.write_bytes(bytes(5000))


def scrambled(path: Path) -> None:
    """The index at its end is whole, the pictures before it are not."""
    data = write_video(path, moving_square(8)).read_bytes()
    begin, end = data.index(b"mdat") + 8, data.index(b"moov") - 4
    path.write_bytes(data[:begin] + bytes(byte ^ 0x5A for byte in data[begin:end]) + data[end:])


def hdr(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=10, options={"colorprim": "bt2020", "transfer": "smpte2084"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_trc = 16
        for frame in moving_square(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def one_frame(path: Path) -> None:
    path.write_bytes(video.encode_mp4(iter(moving_square(1)), 10, IngestConfig.model_fields["encoding"].default))


REFUSED: dict[Callable[[Path], None], str] = {
    empty: "cannot be opened as a video: the file is empty",
    text: "cannot be opened as a video: what is in it is no video",
    cut_short: "begins like an mp4, and its index is missing or damaged: most likely it was cut short",
    not_copied: "begins with zeros",
    scrambled: "is damaged after frame 0: what follows is no valid video data",
    audio_only: "holds no video stream",
    hdr: "is HDR",
}


def test_every_bad_video_is_counted_and_explained(tmp_path):
    folder = tmp_path / "videos"
    write_video(folder / "good.mp4", moving_square(8))
    (folder / "mislabelled.mp4").write_bytes((write_video(tmp_path / "real.webm", moving_square(8))).read_bytes())
    one_frame(folder / "one_frame.mp4")
    for write in REFUSED:
        write(folder / f"{write.__name__}.mp4")
    config = IngestConfig(source=VideoFolderSource(url=str(folder)), image_size=32, workers=1, max_failed_share=0.9)
    report = ingest(config, str(tmp_path / "out"))
    assert report.num_episodes == 2
    failed = {problem.source: problem.reason for problem in report.failed}
    assert set(failed) == {f"{write.__name__}.mp4" for write in REFUSED}
    for write, words in REFUSED.items():
        assert words in failed[f"{write.__name__}.mp4"]
    assert not any("Errno" in reason for reason in failed.values())
    assert [(problem.source, problem.reason) for problem in report.skipped] == [
        ("one_frame.mp4", "1 frames, fewer than min_frames=2")
    ]


def test_a_video_that_was_filmed_upright_is_turned(tmp_path):
    path = write_video(tmp_path / "turned.mp4", moving_square(3))
    data = path.read_bytes()
    at = data.index(IDENTITY, data.index(b"tkhd"))
    path.write_bytes(data[:at] + TURNED + data[at + len(IDENTITY) :])
    frames = list(video.decode(str(path)))
    assert frames[0].shape == (64, 48, 3)
    plain = next(iter(video.decode(data)))
    turned = min(np.abs(np.rot90(plain, turns).astype(int) - frames[0]).mean() for turns in (1, 3))
    assert turned < 3


def test_an_enormous_frame_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "LARGEST_PIXELS", 64 * 48 - 1)
    path = write_video(tmp_path / "large.mp4", moving_square(3))
    with pytest.raises(SourceError, match=r"frames of 64x48 pixels.*Scale it down"):
        list(video.decode(str(path)))
    with pytest.raises(SourceError, match="Scale it down"):
        video.probe(str(path))


def test_a_variable_frame_rate_is_read_on_an_even_grid(tmp_path):
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
        times = [0, 20, 40, 120, 140, 160, 260, 280]  # 600ths of a second
        for time, frame in zip(times, moving_square(len(times)), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 600)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert len(list(video.decode(str(path), steady_fps=30))) == 15
