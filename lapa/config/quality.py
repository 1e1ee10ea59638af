"""Clips that teach nothing, or something false, and what becomes of them."""

from typing import Literal

from pydantic import Field

from lapa.config.base import Config

Handling = Literal["off", "tag", "drop"]
"""Not looked for; kept and named; left out and named."""


class QualityConfig(Config):
    """What ingest looks for in every clip while it encodes it.

    What is tagged is named in the index (column `tags`) and in the report; what is dropped, in the report alone.
    """

    static: Handling = "tag"
    """Nothing moves from the first frame to the last."""
    black: Handling = "tag"
    """Most frames are black."""
    shaky: Handling = "tag"
    """The camera jerks from frame to frame; a steady pan is none."""
    cuts: Literal["off", "tag", "split", "drop"] = "tag"
    """The scene changes from one frame to the next. `split` makes an episode of each scene, so that no frame pair
    crosses a cut: what edited and internet video needs."""
    duplicates: Handling = "tag"
    """Nearly the same pictures as an earlier episode, of the same length. Tagged ones are trained on or held out
    together with the episode that they repeat."""
    min_seconds: float = Field(0.0, ge=0)
    """Shorter episodes are skipped, as those below `min_frames` are."""
    static_change: float = Field(8.0, gt=0)
    """Largest change of a 64th of the picture's side that still counts as none, in levels of a colour, 0 to 255: noise
    and compression stay below."""
    black_level: float = Field(16.0, gt=0)
    """A frame whose mean is below is black, in grey levels."""
    black_share: float = Field(0.8, gt=0, le=1)
    """Of the frames; a clip with at least this share of black ones is black."""
    shake: float = Field(0.03, gt=0)
    """Root mean square of how much the picture's motion changes from frame to frame, as a share of its side."""
    cut_change: float = Field(15.0, gt=0)
    """Least change of hue, saturation and brightness from one frame to the next that can be a cut, of 255."""
    cut_contrast: float = Field(3.0, gt=1)
    """A cut changes the picture this many times as much as the frames around it do."""
    duplicate_bits: int = Field(12, ge=0, le=15)
    """Of the 256 bits of a clip's perceptual hash, how many may differ between duplicates."""
    duplicate_change: float = Field(20.0, gt=0)
    """Largest difference of a 16th of the picture's side between duplicates, in levels of a colour, 0 to 255."""

    @property
    def is_off(self) -> bool:
        """Whether nothing is looked for."""
        return {self.static, self.black, self.shaky, self.cuts, self.duplicates} == {"off"}
