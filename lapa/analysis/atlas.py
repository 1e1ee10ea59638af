"""What codes look like: one frame under each code, and the decoder beside the truth."""

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from lapa.analysis.drawing import Tile, grid
from lapa.analysis.exhibits import Exhibit, code_name
from lapa.analysis.images import to_images
from lapa.analysis.latents import Encoded
from lapa.analysis.reconstruction import SomePairs, constant_code, decode, some_pairs
from lapa.data.frames import episode_frames
from lapa.models.images import to_bytes
from lapa.models.latent_action.model import LatentActionModel

COLUMNS = 5
MOST_CODES = 19
LEAST_PAIRS = 3
"""Codes seen less often are left out of the atlas."""
RECONSTRUCTED = 6


def atlas(model: LatentActionModel, encoded: Encoded, role: str) -> Exhibit:
    """One frame of a scored episode, and its future under each of the most frequent latent actions."""
    codes, counts = frequent_codes(encoded.pairs.codes, MOST_CODES)
    codes, counts = codes[counts >= LEAST_PAIRS], counts[counts >= LEAST_PAIRS]
    frame = _telling_frame(encoded)
    futures = frames_of(decode(model, to_images(np.repeat(frame[None], len(codes), axis=0)), codes))
    shares = counts / len(encoded.pairs)
    tiles: list[Tile | None] = [Tile(frame=frame, title="now")]
    tiles += [
        Tile(frame=future, title=f"{code_name(code)}  {share:.0%}")
        for future, code, share in zip(futures, codes, shares, strict=True)
    ]
    return Exhibit(
        kind="atlas",
        name=f"atlas-{role}",
        title=f"What each code does ({role})",
        caption=(
            f"First the current frame, then what the decoder draws {encoded.window_seconds:g} s later under each "
            f"latent action, the most frequent first, with its share of {len(encoded.pairs):,} frame pairs. Codes that "
            "name motion each move the same thing another way; tiles that look alike are codes that mean the same."
        ),
        alt=f"A frame and its predicted futures under {len(codes)} latent actions.",
        still=grid([tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]),
    )


def reconstruction_picture(model: LatentActionModel, encoded: Encoded, role: str) -> Exhibit:
    """Scored pairs in which something moves: before, after, with the codes, and with one code for all."""
    pairs = _moving(some_pairs(encoded, most=128), RECONSTRUCTED)
    constant = constant_code(model, encoded)
    rows = {
        "now": _stored(pairs.current),
        "later": _stored(pairs.future),
        "with its\ncodes": frames_of(decode(model, pairs.current, pairs.codes)),
        "with one\ncode for all": frames_of(decode(model, pairs.current, np.broadcast_to(constant, pairs.codes.shape))),
    }
    tiles = [[Tile(frame=frame) for frame in frames] for frames in rows.values()]
    return Exhibit(
        kind="reconstruction",
        name=f"reconstruction-{role}",
        title=f"The future from a frame and its codes ({role})",
        caption=(
            f"Held-out frame pairs, {encoded.window_seconds:g} s apart; above each, its codes. The third row should "
            f"look like the second. The fourth has one code ({code_name(constant)}) everywhere: what it gets right was "
            "not told by codes."
        ),
        alt=f"{len(pairs.row)} frame pairs with their reconstructions.",
        still=grid(tiles, row_names=list(rows), column_names=[code_name(code) for code in pairs.codes]),
    )


def frequent_codes(
    codes: Int64[np.ndarray, "m k"], most: int
) -> tuple[Int64[np.ndarray, "s k"], Int64[np.ndarray, " s"]]:
    """Whole latent actions and how often they occur, the most frequent first."""
    seen, counts = np.unique(codes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return seen[order], counts[order]


def frames_of(images: Float[Tensor, "m c h w"]) -> UInt8[np.ndarray, "m h w c"]:
    """Images in [0, 1] as frames."""
    frames: np.ndarray = rearrange(to_bytes(images), "m c h w -> m h w c").numpy()
    return frames


def _stored(images: Tensor) -> UInt8[np.ndarray, "m h w c"]:
    frames: np.ndarray = rearrange(images, "m c h w -> m h w c").numpy()
    return frames


def _telling_frame(encoded: Encoded) -> UInt8[np.ndarray, "h w 3"]:
    """From the middle of a scored episode: at its ends little moves."""
    frames = episode_frames(encoded.dataset, int(encoded.scored_rows[0]))
    return np.asarray(frames[len(frames) // 3])


def _moving(pairs: SomePairs, number: int) -> SomePairs:
    """Pairs evenly from the half in which most changes."""
    change = (pairs.future.float() - pairs.current.float()).square().mean(dim=(1, 2, 3)).numpy()
    moving = np.sort(np.argsort(-change, kind="stable")[: max(len(change) // 2, 1)])
    chosen = moving[np.unique(np.linspace(0, len(moving) - 1, min(number, len(moving))).astype(np.int64))]
    return SomePairs(
        current=pairs.current[chosen], future=pairs.future[chosen], codes=pairs.codes[chosen], row=pairs.row[chosen]
    )
