"""A video's frames, scaled before they are RGB: the same as RGB frames that `resize` scales, but for rounding."""

import io
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from lapa.config.data import VideoEncoding
from lapa.data import video
from lapa.data.pictures import Converter, Picture, Scaler
from lapa.data.resize import resize

SIZE = 32

SAMPLES = {
    "640x480": "simpler-real-rollouts/bridge_real_1.mp4",
    "full range": "simpler-real-rollouts/rt1_real_standing_coke_can_1.mp4",
    "1280x720 in BT.709": "human-hand-video/human_hand_video.mp4",
    "of the size already": "gr1-robosim-picknplace/videos/chunk-000/observation.images.ego_view/episode_000003.mp4",
}


def both_ways(source: Path | bytes, size: int, mode: str = "crop", count: int = 3) -> list[list[Picture]]:
    """Scaled as planes where that is done, and as RGB."""
    converter = Converter()
    planes = Scaler(size, mode, "video").scaled(itertools.islice(video.decode(source).pictures, count))
    frames = itertools.islice(video.decode(source), count)
    return [list(planes), [Picture(resize(frame, size, mode), converter) for frame in frames]]


def yuv(pictures: list[Picture]) -> np.ndarray:
    return np.stack([picture.planes.to_ndarray() for picture in pictures]).astype(int)


def colour_shift(new: list[Picture], old: list[Picture]) -> float:
    """Pixels by which the colour planes lie apart."""
    side = new[0].planes.width // 2
    pairs = zip(yuv(new)[:, 2 * side :], yuv(old)[:, 2 * side :], strict=True)
    found = []
    for one, other in pairs:
        planes = zip(one.reshape(2, side, side), other.reshape(2, side, side), strict=True)
        found += [cv2.phaseCorrelate(a.astype(np.float32), b.astype(np.float32))[0] for a, b in planes]
    return float(np.abs(np.mean(found, axis=0)).max())


@pytest.mark.parametrize(
    ("sample", "mode"), [*((sample, "crop") for sample in SAMPLES), ("1280x720 in BT.709", "squash")]
)
def test_real_videos_become_the_frames_that_their_rgb_becomes(shared_data, sample, mode):
    new, old = both_ways(shared_data / SAMPLES[sample], 256, mode)
    # libav's quick way to RGB, which the full size took, gives about a level less.
    assert np.abs(yuv(new)[:, :256] - yuv(old)[:, :256]).mean() < 1.2
    assert np.abs(yuv(new)[:, 256:] - yuv(old)[:, 256:]).mean() < 0.6
    assert colour_shift(new, old) < 0.1
    stored = [np.stack(list(video.decode(video.encode_pictures(way, 10, VideoEncoding())))) for way in (new, old)]
    assert np.abs(stored[0].astype(int) - stored[1]).mean() < 2
    thumbs = [np.stack([picture.thumb(64) for picture in way]).astype(int) for way in (new, old)]
    assert np.abs(thumbs[0] - thumbs[1]).mean() < 2


def encoded(frames: np.ndarray, pix_fmt: str, *, matrix: int = 2, colour_range: int = 0, **options: str) -> bytes:
    target, reformatter = io.BytesIO(), VideoReformatter()
    with av.open(target, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"} | options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, context = pix_fmt, stream.codec_context
        context.colorspace, context.color_range = matrix, colour_range
        for number, frame in enumerate(frames):
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = reformatter.reformat(
                rgb, format=pix_fmt, dst_colorspace=matrix if matrix != 2 else None, dst_color_range=colour_range
            )
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return target.getvalue()


def texture(height: int, width: int, count: int = 3) -> np.ndarray:
    """uint8 ``t h w 3``: smooth colours that move."""
    noise = np.random.default_rng(0).integers(60, 190, (2 + height // 24, 2 + width // 24, 3), dtype=np.uint8)
    ground = cv2.resize(noise, (width + count, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.ascontiguousarray(ground[:, t : t + width]) for t in range(count)])


KINDS: dict[str, Callable[[], bytes]] = {
    "BT.601": lambda: encoded(texture(120, 160), "yuv420p"),
    "BT.709": lambda: encoded(texture(120, 160), "yuv420p", matrix=1),
    "full range": lambda: encoded(texture(120, 160), "yuv420p", colour_range=2),
    "10 bits": lambda: encoded(texture(120, 160), "yuv420p10le"),
    "4:2:2": lambda: encoded(texture(120, 160), "yuv422p"),
    "4:4:4, odd": lambda: encoded(texture(121, 161), "yuv444p"),
    "enlarged": lambda: encoded(texture(24, 24), "yuv420p"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_video_becomes_the_frames_that_its_rgb_becomes(kind):
    new, old = both_ways(KINDS[kind](), SIZE)
    assert np.abs(yuv(new)[:, :SIZE] - yuv(old)[:, :SIZE]).mean() < 1.5
    assert np.abs(yuv(new)[:, SIZE:] - yuv(old)[:, SIZE:]).mean() < 1.5
    assert colour_shift(new, old) < 0.15  # taken for left of their centres, colours would lie 0.18 aside


def test_what_libav_would_scale_otherwise_goes_through_rgb():
    """OpenCV averages no side that shrinks where the other one grows."""
    new, old = both_ways(encoded(texture(24, 160), "yuv420p"), SIZE, "squash")
    assert np.array_equal(yuv(new), yuv(old))


def test_key_frames_of_the_source_are_none_of_ours():
    pictures, _ = both_ways(encoded(texture(48, 64, 12), "yuv420p", g="2"), SIZE, count=12)
    stored = video.encode_pictures(pictures, 10, VideoEncoding(keyframe_seconds=1.2))
    with av.open(io.BytesIO(stored)) as container:
        assert [packet.is_keyframe for packet in container.demux(video=0) if packet.size] == [True] + [False] * 11


def test_pictures_that_change_their_size_on_the_way_are_scaled_alike():
    videos = [encoded(texture(height, width), "yuv420p") for height, width in ((48, 64), (96, 72), (48, 64))]
    joined = itertools.chain.from_iterable(video.decode(data).pictures for data in videos)
    pictures = list(Scaler(SIZE, "crop", "joined").scaled(joined))
    alone = [picture for data in videos for picture in both_ways(data, SIZE)[0]]
    assert np.array_equal(yuv(pictures), yuv(alone))
