"""How well the future frame is predicted with the codes, beside predictions that do without them.

m frame pairs, k codes per frame pair, c h w images at the model's size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lapa.analysis.images import BATCH, to_images
from lapa.analysis.latents import Encoded
from lapa.analysis.probe_results import Reconstruction
from lapa.analysis.scores import mean_interval
from lapa.config.latent_action import WithheldConfig
from lapa.data.frames import episode_frames
from lapa.models.images import to_unit
from lapa.models.latent_action.model import LatentActionModel, LatentActionOutput
from lapa.types.batches import FramePair, Images

MOST_PAIRS = 512
MOST_CONSTANTS = 8
"""Frequent latent actions that are tried as the one for all pairs."""


@dataclass(frozen=True, kw_only=True)
class SomePairs:
    """Frames of some pairs, as stored."""

    current: Images
    future: Images
    codes: Int64[np.ndarray, "m k"]
    row: Int64[np.ndarray, " m"]


def some_pairs(encoded: Encoded, *, most: int = MOST_PAIRS, of_fit: bool = False) -> SomePairs:
    """Frames of up to `most` scored pairs, evenly over all of them; of fitting pairs if so asked."""
    pairs = encoded.fit if of_fit else encoded.scored
    chosen = pairs.take(np.unique(np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(np.int64)))
    current, future = [], []
    for row in np.unique(chosen.row):
        frames = episode_frames(encoded.dataset, int(row))
        times = chosen.timestep[chosen.row == row]
        current.append(frames[times])
        future.append(frames[times + encoded.window(int(row))])
    return SomePairs(
        current=to_images(np.concatenate(current)),
        future=to_images(np.concatenate(future)),
        codes=chosen.codes,
        row=chosen.row,
    )


def reconstructions(
    model: LatentActionModel, encoded: Encoded, *, floor: LatentActionModel | None = None
) -> tuple[Reconstruction, ...]:
    """Errors on scored pairs; `floor` is a model trained with the quantizer `withheld`."""
    pairs, size = some_pairs(encoded), model.config.image_size
    errors = {"copy": _errors(pairs, size, lambda part: to_unit(pairs.current[part], size))}
    if encoded.codebook_size:
        shuffled = pairs.codes[np.random.default_rng(0).permutation(len(pairs.codes))]
        constant = np.broadcast_to(constant_code(model, encoded), pairs.codes.shape)
        for name, codes in (("codes", pairs.codes), ("constant-code", constant), ("shuffled-codes", shuffled)):
            errors[name] = _decoded(model, pairs, codes)
    elif not isinstance(model.config.quantizer, WithheldConfig):
        errors["codes"] = _own(model, pairs)  # continuous latents: there is no other code to try
    if floor is not None:
        errors["withheld"] = _own(floor, pairs)
    return _table(errors, pairs)


def constant_code(model: LatentActionModel, encoded: Encoded) -> Int64[np.ndarray, " k"]:
    """The one latent action that serves all fitting pairs best, of the most frequent ones."""
    pairs = some_pairs(encoded, most=128, of_fit=True)
    seen, counts = np.unique(encoded.fit.codes, axis=0, return_counts=True)
    candidates = seen[np.argsort(-counts, kind="stable")[:MOST_CONSTANTS]]
    errors = [_decoded(model, pairs, np.broadcast_to(code, pairs.codes.shape)).mean() for code in candidates]
    best: np.ndarray = candidates[int(np.argmin(errors))]
    return best


@torch.inference_mode()
def decode(model: LatentActionModel, current: Images, codes: Int64[np.ndarray, "m k"]) -> Float[Tensor, "m c h w"]:
    """Future frames in [0, 1], on the CPU."""
    device = next(model.parameters()).device
    names = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.int64))
    return model.decode(current.to(device), names.to(device)).cpu()


def _table(errors: Mapping[str, np.ndarray], pairs: SomePairs) -> tuple[Reconstruction, ...]:
    copy = float(errors["copy"].mean())
    rows = []
    for name in ("codes", "withheld", "constant-code", "shuffled-codes", "copy"):
        if name in errors:
            error, low, high = mean_interval(errors[name], pairs.row)
            of_copy = error / copy if copy else 0.0
            rows.append(
                Reconstruction.model_validate(
                    {"name": name, "error": error, "low": low, "high": high, "of_copy": of_copy}
                )
            )
    return tuple(rows)


def _decoded(model: LatentActionModel, pairs: SomePairs, codes: np.ndarray) -> Float[np.ndarray, " m"]:
    return _errors(pairs, model.config.image_size, lambda part: decode(model, pairs.current[part], codes[part]))


def _own(model: LatentActionModel, pairs: SomePairs) -> Float[np.ndarray, " m"]:
    """Of the whole model, from frame pair to future frame."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def predict(part: slice) -> Tensor:
        pair = FramePair(current=pairs.current[part].to(device), future=pairs.future[part].to(device))
        output: LatentActionOutput = model(pair)
        return output.reconstruction.cpu()

    return _errors(pairs, model.config.image_size, predict)


def _errors(pairs: SomePairs, size: int, predict: Callable[[slice], Tensor]) -> Float[np.ndarray, " m"]:
    """Mean squared error of each pair's future frame at the model's size."""
    parts = [slice(start, start + BATCH) for start in range(0, len(pairs.row), BATCH)]
    errors = [(predict(part) - to_unit(pairs.future[part], size)).square().mean(dim=(1, 2, 3)) for part in parts]
    return torch.cat(errors).double().numpy()
