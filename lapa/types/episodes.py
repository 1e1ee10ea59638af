"""What flows between files and training, on the host: numpy only, so that reading needs no torch.

t timesteps, h w pixels, a action dimensions, p proprioception dimensions, k chunk length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

Frame = UInt8[np.ndarray, "_h _w 3"]
"""One RGB image."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recording of one behaviour, as a source reader yields it.

    ``frames`` is called once and decodes lazily, so an episode of any length fits in memory.
    """

    id: str
    """Stable and unique inside its source; safe as a file name."""
    frames: Callable[[], Iterator[Frame]]
    fps: float
    instruction: str = ""
    actions: Float32[np.ndarray, "t a"] | None = None
    """Action taken at each timestep, aligned with the frames."""
    proprioception: Float32[np.ndarray, "t p"] | None = None
    action_names: tuple[str, ...] = ()
    embodiment: str = "unknown"
    licence: str = "unknown"
    source: str = ""
    """Where the episode came from: a URL, and a record number where a file holds several."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy sees at one timestep."""

    image: Frame
    proprioception: Float32[np.ndarray, " p"] | None = None


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """The next ``k`` actions in the robot's own units, and the bundle that chose them."""

    actions: Float32[np.ndarray, "k a"]
    policy_digest: str = ""
