"""What the camera and the light did between the frames of an episode, which no action of the robot makes.

t timesteps, m frame pairs.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8

from lapa.analysis.images import pair_batches
from lapa.models.latent_action.global_motion import global_motion

GLOBAL_MOTION = ("right", "down", "brighter")


def camera_motion(frames: UInt8[np.ndarray, "t h w 3"], window: int) -> Float[np.ndarray, "m 3"]:
    """Of every pair (t, t + window): how far the picture moved right and down, in shares of its side, and by which
    share it became brighter."""
    height, width = frames.shape[1:3]
    found = []
    for current, future in pair_batches(frames, window):
        shift, gain = global_motion(current / 255, future / 255)
        found.append(torch.stack((shift[:, 1] / width, shift[:, 0] / height, gain - 1), dim=1))
    motion: np.ndarray = torch.cat(found).double().numpy()
    return motion
