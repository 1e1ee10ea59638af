"""From an episode to the clips that are stored of it: thinned, sized, measured, cut and encoded in one pass."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from lapa import timesheet
from lapa.config.data import IngestConfig
from lapa.data import quality, video
from lapa.data.pictures import Converter, Decoded, Picture, Scaler
from lapa.data.quality import ClipMeter, Look, Seen
from lapa.data.quality_cuts import Placed, placed_in_scenes
from lapa.data.resize import drop_to_rate, resize
from lapa.data.statistics import FrameMeter, FrameSums
from lapa.types.episodes import Episode

Item = TypeVar("Item")

_BURST = 8
"""Frames that each step of the work does in a row. Frame by frame, each would find what it needs pushed out of the
processor's caches by the others: a quarter more time."""


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
    """The clips of an episode, in order; at least one. No more than some tens of frames, scaled, are in memory."""
    sized = _in_bursts(timesheet.each("scale", _sized(episode, fps, config)))
    if config.quality.is_off:
        yield _encoded(sized, None, fps, config)
    elif config.quality.cuts == "off":
        yield _looked_at(_looks(sized), fps, config)
    elif config.quality.cuts == "split":
        yield from _scenes(sized, fps, config)
    else:
        yield _with_cuts(sized, fps, config)


def _sized(episode: Episode, fps: float, config: IngestConfig) -> Iterator[Picture]:
    """What is kept of the frames, scaled before it is RGB where a video is read."""
    frames = episode.frames()
    if isinstance(frames, Decoded):
        pictures = drop_to_rate(timesheet.each("decode", frames.pictures), source_fps=episode.fps, fps=fps)
        return Scaler(config.image_size, config.resize, frames.name).scaled(pictures)
    arrays = drop_to_rate(timesheet.each("decode", frames), source_fps=episode.fps, fps=fps)
    converter = Converter()
    return (Picture(resize(array, config.image_size, config.resize), converter) for array in arrays)


def _with_cuts(sized: Iterator[Picture], fps: float, config: IngestConfig) -> EncodedClip:
    """One clip, whose cuts are counted."""
    cuts = 0

    def counted() -> Iterator[Look]:
        nonlocal cuts
        for cuts, look in _placed(sized, fps, config):  # noqa: B007
            yield look

    clip = _looked_at(counted(), fps, config)
    return replace(clip, cuts=cuts)


def _scenes(sized: Iterator[Picture], fps: float, config: IngestConfig) -> Iterator[EncodedClip]:
    start = 0
    for _, scene in itertools.groupby(_placed(sized, fps, config), key=lambda item: item.scene):
        clip = _looked_at((item.look for item in scene), fps, config)
        yield replace(clip, start=start)
        start += clip.num_frames
    if start == 0:
        yield _encoded(iter(()), None, fps, config)


def _looks(sized: Iterator[Picture]) -> Iterator[Look]:
    return _in_bursts(timesheet.each("look", quality.look(sized)))


def _placed(sized: Iterator[Picture], fps: float, config: IngestConfig) -> Iterator[Placed]:
    return _in_bursts(placed_in_scenes(_looks(sized), fps, config.quality))


def _looked_at(looks: Iterator[Look], fps: float, config: IngestConfig) -> EncodedClip:
    meter = ClipMeter()
    measured = timesheet.each("look", meter.measure(looks, black_level=config.quality.black_level))
    return _encoded(_in_bursts(measured), meter, fps, config)


def _encoded(pictures: Iterator[Picture], look: ClipMeter | None, fps: float, config: IngestConfig) -> EncodedClip:
    meter = FrameMeter()
    measured = timesheet.each("look", meter.measure(pictures))
    first = next(measured, None)
    encoded = b""
    if first is not None:
        with timesheet.part("encode"):
            encoded = video.encode_pictures(itertools.chain([first], measured), fps, config.encoding)
    with timesheet.part("look"):
        seen = look.seen() if look is not None and first is not None else None
    return EncodedClip(num_frames=meter.num_frames, video=encoded, sums=meter.sums, seen=seen)


def _in_bursts(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, of which `_BURST` are made when the first of them is wanted."""
    while burst := list(itertools.islice(items, _BURST)):
        yield from burst
