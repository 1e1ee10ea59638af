"""Pictures of what the codes mean, as uint8 arrays: one column per code, one row per frame.

k codes per frame pair, m atlas entries, y x pixels of one frame, h w of the picture.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from lapa.models.images import to_bytes, to_unit
from lapa.models.latent_action.model import LatentActionModel, LatentActionOutput

Picture = UInt8[np.ndarray, "h w 3"]
GAP = 2
"""Pixels of white between tiles."""


def code_atlas(
    model: LatentActionModel,
    frame: UInt8[Tensor, "c y x"],
    codes: Int64[Tensor, "m k"] | None = None,
    limit: int = 64,
    decode: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Picture:
    """The frame, then its future under each of `codes`; by default under every latent action when there are
    at most `limit`, else under every code at each position in turn, the other positions at code 0. `decode` stands
    in for `model.decode` where the model's weights are spread over ranks."""
    chosen = (atlas_codes(model, limit) if codes is None else codes)[:limit].to(frame.device)
    futures = (decode or model.decode)(frame.expand(len(chosen), -1, -1, -1), chosen)
    current = to_unit(frame[None], model.config.image_size)
    if codes is None:
        size = model.config.codebook_size
        rows = [torch.cat((current, row)) for row in torch.split(futures, size)]
    else:
        rows = [torch.cat((current, futures))]
    return tile(rows)


def atlas_codes(model: LatentActionModel, limit: int) -> Int64[Tensor, "m k"]:
    """What `code_atlas` shows by default; rows share all positions but the last, or the swept one."""
    size, positions = model.config.codebook_size, model.config.codes_per_pair
    if size**positions <= limit:
        return torch.tensor(list(itertools.product(range(size), repeat=positions)))
    swept = torch.zeros(positions, size, positions, dtype=torch.int64)
    for position in range(positions):
        swept[position, :, position] = torch.arange(size)
    return swept.flatten(0, 1)


def reconstruction_grid(output: LatentActionOutput, limit: int = 8) -> Picture:
    """Three rows: current frames, future frames, and what the model made of the first and the codes."""
    return tile([output.current[:limit], output.future[:limit], output.reconstruction[:limit]])


def tile(rows: list[Float[Tensor, "_ c y x"]]) -> Picture:
    """Images in rows, white between them; a shorter row is filled up with white."""
    longest = max(len(row) for row in rows)
    padded = [F.pad(row.float(), (0, GAP, 0, GAP, 0, 0, 0, longest - len(row)), value=1.0) for row in rows]
    pixels = to_bytes(rearrange(torch.stack(padded), "r m c h w -> 1 c (r h) (m w)"))
    picture: np.ndarray = rearrange(pixels[0], "c h w -> h w c").cpu().numpy()
    return picture
