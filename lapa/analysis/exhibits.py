"""What an analysis shows: a picture or a video with the words that go with it, not yet a file."""

from collections.abc import Iterable
from dataclasses import dataclass

from lapa import files
from lapa.analysis.drawing import Png
from lapa.analysis.exhibit_results import AnalysisKind, MediaFile


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    kind: AnalysisKind
    name: str
    title: str
    caption: str
    alt: str
    still: Png
    video: bytes | None = None
    """An mp4; `still` then shows the same."""
    video_size: tuple[int, int] = (0, 0)
    """Width and height."""

    def write(self, folder: str) -> tuple[MediaFile, ...]:
        """Its files in `folder`."""
        picture = f"{self.name}.png"
        files.write_bytes(files.join(folder, picture), self.still.data)
        still = MediaFile(
            kind=self.kind,
            name=self.name,
            file=picture,
            media_type="image/png",
            width=self.still.width,
            height=self.still.height,
            title=self.title,
            caption=self.caption,
            alt=self.alt,
        )
        if self.video is None:
            return (still,)
        film = f"{self.name}.mp4"
        files.write_bytes(files.join(folder, film), self.video)
        width, height = self.video_size
        changes = {"file": film, "media_type": "video/mp4", "width": width, "height": height, "poster": picture}
        return (still, still.model_copy(update={**changes, "name": f"{self.name}-video"}))


def code_name(code: Iterable[int]) -> str:
    """`3·1` for the codes (3, 1)."""
    return "·".join(str(int(part)) for part in code)
