"""From an episode to the clips that are stored of it: thinned, sized, measured, cut and encoded in one pass."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lapa.config.data import IngestConfig
from lapa.data import quality, timesheet, video
from lapa.data.quality import ClipMeter, Look, Seen
from lapa.data.quality_cuts import placed_in_scenes
from lapa.data.resize import drop_to_rate, resize
from lapa.data.statistics import FrameMeter, FrameSums
from lapa.types.episodes import Episode, Frame


@dataclass(frozen=True, kw_only=True)
class EncodedClip:
    """A whole episode, or one scene of it."""

    start: int = 0
    """Its first timestep in the episode."""
    num_frames: int
    video: bytes
    """Empty where there is no frame."""
    sums: FrameSums
    seen: Seen | None
    """None where nothing is looked for, or there is no frame."""
    cuts: int = 0
    """Scene cuts inside."""


def encode_clips(episode: Episode, fps: float, config: IngestConfig) -> Iterator[EncodedClip]:
    """The clips of an episode, in order; at least one. No more than a few frames are in memory."""
    kept = drop_to_rate(timesheet.each("decode", episode.frames()), source_fps=episode.fps, fps=fps)
    sized = timesheet.each("scale", (resize(frame, config.image_size, config.resize) for frame in kept))
    if config.quality.is_off:
        yield _encoded(sized, None, fps, config)
    elif config.quality.cuts == "off":
        yield _looked_at(_looks(sized), fps, config)
    elif config.quality.cuts == "split":
        yield from _scenes(sized, fps, config)
    else:
        yield _with_cuts(sized, fps, config)


def _with_cuts(sized: Iterator[Frame], fps: float, config: IngestConfig) -> EncodedClip:
    """One clip, whose cuts are counted."""
    cuts = 0

    def counted() -> Iterator[Look]:
        nonlocal cuts
        for cuts, look in placed_in_scenes(_looks(sized), fps, config.quality):  # noqa: B007
            yield look

    clip = _looked_at(counted(), fps, config)
    return replace(clip, cuts=cuts)


def _scenes(sized: Iterator[Frame], fps: float, config: IngestConfig) -> Iterator[EncodedClip]:
    start = 0
    placed = placed_in_scenes(_looks(sized), fps, config.quality)
    for _, scene in itertools.groupby(placed, key=lambda item: item.scene):
        clip = _looked_at((item.look for item in scene), fps, config)
        yield replace(clip, start=start)
        start += clip.num_frames
    if start == 0:
        yield _encoded(iter(()), None, fps, config)


def _looks(sized: Iterator[Frame]) -> Iterator[Look]:
    return timesheet.each("look", quality.look(sized))


def _looked_at(looks: Iterator[Look], fps: float, config: IngestConfig) -> EncodedClip:
    meter = ClipMeter()
    measured = timesheet.each("look", meter.measure(looks, black_level=config.quality.black_level))
    return _encoded(measured, meter, fps, config)


def _encoded(frames: Iterator[Frame], look: ClipMeter | None, fps: float, config: IngestConfig) -> EncodedClip:
    meter = FrameMeter()
    measured = timesheet.each("look", meter.measure(frames))
    first = next(measured, None)
    encoded = b""
    if first is not None:
        with timesheet.part("encode"):
            encoded = video.encode_mp4(itertools.chain([first], measured), fps, config.encoding)
    with timesheet.part("look"):
        seen = look.seen() if look is not None and first is not None else None
    return EncodedClip(num_frames=meter.num_frames, video=encoded, sums=meter.sums, seen=seen)
