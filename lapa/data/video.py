"""Frames to H.264 and back, through PyAV. One thread per video: ingest and streams parallelize over videos."""

import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from lapa.config.data import VideoEncoding
from lapa.data import video_faults
from lapa.data.pictures import Converter, Decoded, Picture
from lapa.errors import SourceError
from lapa.types.episodes import Frame

VideoData = bytes | str | Path | IO[bytes]
"""An encoded video: its bytes, a local path, or an open seekable file."""

LONGEST_HOLD_SECONDS = 60.0
"""Videos of variable frame rate show a frame until the next one; a longer gap is a damaged timestamp."""


LARGEST_PIXELS = 2**26
"""Of one frame: 8,192 by 8,192. A larger one is a damaged header, or fills the memory of a machine."""

_PERCEPTUAL_QUANTIZER = 16
"""SMPTE ST 2084, as codecs number transfer functions: HDR whose numbers are no brightness that others know."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What the container says; nothing is decoded."""

    width: int
    height: int
    fps: float
    """Average frame rate."""
    num_frames: int | None
    """None where the container does not say (webm, mkv)."""
    seconds: float | None


def encode_mp4(frames: Iterable[Frame], fps: float, encoding: VideoEncoding) -> bytes:
    """Frames of one even size to an mp4; equal frames give equal bytes. At least one frame is needed."""
    converter = Converter()
    return encode_pictures((Picture(frame, converter) for frame in frames), fps, encoding)


def encode_pictures(pictures: Iterable[Picture], fps: float, encoding: VideoEncoding) -> bytes:
    """As `encode_mp4`."""
    buffer = io.BytesIO()
    rate = Fraction(fps).limit_denominator(100_000)
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=_x264_options(fps, encoding))
        stream.thread_count = 1  # x264 output depends on the number of threads
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            planes = picture.planes
            if number == 0:
                stream.height, stream.width = planes.height, planes.width
            planes.pts = number
            planes.time_base = 1 / rate
            container.mux(stream.encode(planes))
        container.mux(stream.encode())
    return buffer.getvalue()


def decode(video: VideoData, *, name: str = "video", steady_fps: float | None = None) -> Decoded:
    """RGB frames in display order, uint8 ``h w 3``, turned upright.

    With ``steady_fps``, frames sit on that even time grid: videos of variable frame rate repeat or drop frames.
    Raises SourceError, naming `name`, where the video is damaged or cut short.
    """
    pictures = _pictures(video, name)
    return Decoded(pictures if steady_fps is None else _on_even_grid(pictures, steady_fps, name), name)


def decode_span(video: VideoData, *, start_seconds: float, num_frames: int, fps: float, name: str = "video") -> Decoded:
    """The `num_frames` frames from `start_seconds` on, of a video that holds more than them; RGB, upright.

    Entered at the key frame before. Raises SourceError, naming `name`, where the span is damaged, or a frame is not
    where a video of `fps` has it.
    """
    return Decoded(_pictures_of_span(video, start_seconds, num_frames, fps, name), name)


def decode_between(
    video: VideoData, *, start_seconds: float, stop_seconds: float, steady_fps: float, name: str = "video"
) -> Decoded:
    """Frames of a part of a video, on an even time grid; RGB, upright. Entered at the key frame before it.

    Raises SourceError, naming `name`, where the part is damaged or holds no frame.
    """
    return Decoded(_pictures_between(video, start_seconds, stop_seconds, steady_fps, name), name)


def probe(video: VideoData, *, name: str = "video") -> VideoInfo:
    """Size, rate and length as the container declares them. Raises SourceError where it is unreadable."""
    with _opened(video, name) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise SourceError(f"{name} declares no frame rate. Re-encode it, or remove it from the source.")
        seconds = container.duration / av.time_base if container.duration else None
        return VideoInfo(
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=float(rate),
            num_frames=stream.frames or None,
            seconds=seconds,
        )


def _x264_options(fps: float, encoding: VideoEncoding) -> dict[str, str]:
    keyframes = max(1, round(encoding.keyframe_seconds * fps))
    return {
        "crf": str(encoding.crf),
        "preset": encoding.preset,
        "g": str(keyframes),
        "bf": "0",  # decode order is display order, so a reader may stop anywhere
        "mbtree": "0",  # on frames of a few macroblocks it reads unset memory: equal frames gave unequal bytes
        "flags": "+bitexact",
    }


def _pictures(video: VideoData, name: str) -> Iterator[VideoFrame]:
    count = 0
    with _opened(video, name) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        try:
            for picture in container.decode(stream):
                count += 1
                yield picture
        except av.error.FFmpegError as error:
            why = video_faults.undecoded(error)
            raise SourceError(f"{name} is damaged after frame {count}: {why}. Replace or remove it.") from error
        declared = stream.frames
    # An edit list may hide a few leading frames; more than that missing is a file cut short.
    if count == 0 or count < declared - max(2, declared // 20):
        raise SourceError(f"{name} declares {declared} frames but only {count} can be decoded. Replace or remove it.")


def _pictures_from(video: VideoData, seconds: float, name: str) -> Iterator[VideoFrame]:
    """Pictures whose time is not before `seconds`; those without a time are none of them."""
    with _opened(video, name) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        try:
            if seconds > 0 and stream.time_base:
                container.seek(int(seconds / stream.time_base), stream=stream, backward=True)
            for picture in container.decode(stream):
                if picture.pts is not None and picture.time >= seconds:
                    yield picture
        except av.error.FFmpegError as error:
            why = video_faults.undecoded(error)
            raise SourceError(f"{name} is damaged after second {seconds:.3f}: {why}. Replace or remove it.") from error


def _pictures_of_span(
    video: VideoData, start_seconds: float, num_frames: int, fps: float, name: str
) -> Iterator[VideoFrame]:
    half = 0.5 / fps
    count, first, due = 0, start_seconds, start_seconds
    for picture in _pictures_from(video, start_seconds - half, name):
        if count == num_frames or abs(picture.time - due) > half:
            break
        # The first frame sets the grid: starts are rounded sums of durations.
        if count == 0:
            first = picture.time
        count += 1
        due = first + count / fps
        yield picture
    if count < num_frames:
        raise SourceError(
            f"{name} has {count} of the {num_frames} frames that should begin at second {start_seconds:.3f} with "
            f"{fps:g} fps. Replace or remove it."
        )


def _pictures_between(
    video: VideoData, start_seconds: float, stop_seconds: float, steady_fps: float, name: str
) -> Iterator[VideoFrame]:
    pictures = _pictures_from(video, start_seconds, name)
    inside = itertools.takewhile(lambda picture: picture.time < stop_seconds, pictures)
    count = 0
    for picture in _on_even_grid(inside, steady_fps, name):
        count += 1
        yield picture
    if count == 0:
        raise SourceError(
            f"{name} has no frame from second {start_seconds:.2f} to {stop_seconds:.2f}; is the video whole, "
            "and the table its own?"
        )


def _on_even_grid(pictures: Iterable[VideoFrame], fps: float, name: str) -> Iterator[VideoFrame]:
    """Each grid point shows the newest picture that began at most half an interval after it.

    Raises SourceError where a picture would be shown for longer than any camera holds one.
    """
    shown: VideoFrame | None = None
    start = 0.0
    number = 0
    for picture in pictures:
        time = picture.time if picture.pts is not None else None
        if time is None:
            yield picture
            continue
        if shown is None:
            start = time
        position = (time - start) * fps
        if position - number > LONGEST_HOLD_SECONDS * fps:
            raise SourceError(
                f"{name} would show one frame from second {number / fps:.1f} to {time - start:.1f}; more than "
                f"{LONGEST_HOLD_SECONDS:g} seconds mean a broken timestamp. Re-encode it, or remove it from the source."
            )
        while shown is not None and number < position - 0.5:
            yield shown
            number += 1
        shown = picture
    if shown is not None:
        yield shown


@contextmanager
def _opened(video: VideoData, name: str) -> Iterator[InputContainer]:
    source: Any = io.BytesIO(video) if isinstance(video, bytes) else video
    if not isinstance(source, str | Path):
        source.seek(0)  # an open file may have been read before
    try:
        container = av.open(str(source) if isinstance(source, Path) else source, "r")
    except (av.error.FFmpegError, ValueError) as error:
        why = video_faults.unopened(error, source)
        raise SourceError(f"{name} cannot be opened as a video: {why}. Replace or remove it.") from error
    with container:
        if not container.streams.video:
            raise SourceError(f"{name} holds no video stream. Remove it from the source.")
        context = container.streams.video[0].codec_context
        if context is None:
            raise SourceError(
                f"{name} names a codec that cannot be decoded. Re-encode it, or remove it from the source."
            )
        _refuse_unusable(context, name)
        yield container


def _refuse_unusable(context: VideoCodecContext, name: str) -> None:
    if context.width * context.height > LARGEST_PIXELS:
        raise SourceError(
            f"{name} has frames of {context.width}x{context.height} pixels, more than {LARGEST_PIXELS:,}. Scale it "
            "down, or remove it from the source."
        )
    # Hybrid log-gamma, the HDR of phones, is made to look right where it is taken for an ordinary video; this is not.
    if context.color_trc == _PERCEPTUAL_QUANTIZER:
        raise SourceError(
            f"{name} is HDR (perceptual quantizer): read as an ordinary video, all of it would be dark and grey. "
            "Tone-map it, for example with ffmpeg's filters zscale and tonemap, or remove it from the source."
        )
