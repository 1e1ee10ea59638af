"""Decoded pictures, scaled to a dataset's frames before they are RGB.

To turn every picture of a video into RGB and have OpenCV scale that costs more than to decode it. Both steps are
linear, so libav's scaler, with the same part of the picture and the same filter, makes of its planes what `resize`
makes of its RGB, but for rounding; and x264 takes planes as they are. What it would scale otherwise goes through RGB.
"""

from collections.abc import Iterable, Iterator

import av
import cv2
import numpy as np
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from lapa.data.resize import Mode, Part, kept_part, resize
from lapa.errors import SourceError
from lapa.types.episodes import Frame

_STORED_MATRICES = (2, 5, 6)
"""As codecs number them: none told, and the two of BT.601, which is what those of a dataset's videos mean by none."""
_THUMB = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class Converter:
    """Turns pictures of one video into one another; what libav prepares for each way is kept."""

    def __init__(self) -> None:
        self._to_rgb, self._to_planes, self._to_thumb = VideoReformatter(), VideoReformatter(), VideoReformatter()

    def rgb(self, picture: VideoFrame, *, rotation: int = 0) -> Frame:
        """Turned by `rotation` degrees to the left."""
        image = self._to_rgb.reformat(picture, format="rgb24", threads=1).to_ndarray()
        turns = round(rotation / 90)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def planes(self, rgb: Frame) -> VideoFrame:
        array = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        return self._to_planes.reformat(array, format="yuv420p", threads=1)

    def thumb(self, picture: VideoFrame, side: int) -> Frame:
        """RGB of a square picture."""
        small = self._to_thumb.reformat(picture, side, side, "rgb24", interpolation=_THUMB, threads=1)
        return small.to_ndarray()


class Picture:
    """A frame of the dataset's size on its way to the encoder: RGB, or planes that were scaled."""

    def __init__(self, pixels: Frame | VideoFrame, converter: Converter) -> None:
        self._pixels, self._converter = pixels, converter

    @property
    def rgb(self) -> Frame:
        return self._converter.rgb(self._pixels) if isinstance(self._pixels, VideoFrame) else self._pixels

    @property
    def planes(self) -> VideoFrame:
        """What is encoded: yuv420p in BT.601."""
        return self._pixels if isinstance(self._pixels, VideoFrame) else self._converter.planes(self._pixels)

    def thumb(self, side: int) -> Frame:
        """RGB, each pixel the mean of those it covers."""
        if isinstance(self._pixels, VideoFrame):
            return self._converter.thumb(self._pixels, side)
        return cv2.resize(self._pixels, (side, side), interpolation=cv2.INTER_AREA)


class Decoded(Iterator[Frame]):
    """RGB frames of a video, upright; or, for who scales them first, the pictures that they are made of."""

    def __init__(self, pictures: Iterator[VideoFrame], name: str) -> None:
        self.pictures, self.name = pictures, name
        self._converter = Converter()

    def __next__(self) -> Frame:
        picture = next(self.pictures)
        return self._converter.rgb(picture, rotation=picture.rotation)


class Scaler:
    """Makes frames of the dataset's size of the pictures of one video, which errors call `name`."""

    def __init__(self, size: int, mode: Mode, name: str) -> None:
        self._size, self._mode, self._name = size, mode, name
        self._converter = Converter()
        self._kind: tuple[object, ...] | None = None
        self._graph = Graph()

    def scaled(self, pictures: Iterable[VideoFrame]) -> Iterator[Picture]:
        """Raises SourceError where libav knows no way to scale one."""
        for picture in pictures:
            try:
                pixels = self._frame(picture)
            except av.error.FFmpegError as error:
                raise SourceError(
                    f"{self._name} cannot be scaled: {error.strerror}. Re-encode or remove it."
                ) from error
            yield Picture(pixels, self._converter)

    def _frame(self, picture: VideoFrame) -> Frame | VideoFrame:
        part = kept_part(picture.height, picture.width, self._mode)
        if not self._is_alike(picture, part):
            return resize(self._converter.rgb(picture, rotation=picture.rotation), self._size, self._mode)
        small = self._small(picture, part)
        if picture.rotation or small.colorspace not in _STORED_MATRICES:
            return self._converter.rgb(small, rotation=picture.rotation)
        return small

    def _is_alike(self, picture: VideoFrame, part: Part) -> bool:
        """Whether libav scales it as OpenCV does, which does not average a side that shrinks where the other grows."""
        kind = picture.format
        grows = max(part.height, part.width) <= self._size
        return kind.is_planar and not kind.is_rgb and (part.shrinks_to(self._size) or grows)

    def _small(self, picture: VideoFrame, part: Part) -> VideoFrame:
        # A damaged or joined video may change its pictures' size on the way.
        kind = picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range
        if kind != self._kind:
            self._graph, self._kind = self._built(picture, part), kind
        self._graph.vpush(picture)
        small = self._graph.vpull()
        small.pict_type = PictureType.NONE  # or each key frame of the source would become one of ours
        return small

    def _built(self, picture: VideoFrame, part: Part) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "buffer",
            video_size=f"{picture.width}x{picture.height}",
            pix_fmt=picture.format.name,
            time_base=str(picture.time_base or "1/1000"),
            colorspace=str(int(picture.colorspace)),
            range=str(int(picture.color_range)),
        )
        crop = graph.add("crop", f"{part.width}:{part.height}:{part.left}:{part.top}:exact=1")
        # Captions and the like would be encoded, too.
        bare = graph.add("sidedata", "mode=delete")
        filtering = "area" if part.shrinks_to(self._size) else "bilinear"
        flags = f"{filtering}+accurate_rnd+bitexact"  # the same on every processor
        scale = graph.add("scale", f"{self._size}:{self._size}:flags={flags}:out_range=limited")
        graph.link_nodes(source, crop, bare, scale, graph.add("format", "yuv420p"), graph.add("buffersink"))
        graph.configure()
        return graph
