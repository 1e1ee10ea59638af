"""What a latent-action model says of a dataset's frame pairs, beside what is known of them: all analyses read it.

m frame pairs, k codes per frame pair, v numbers of all vectors of a pair, a dimensions, t timesteps.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from lapa.analysis.camera import camera_motion
from lapa.analysis.images import pair_batches
from lapa.analysis.probe_results import Target
from lapa.analysis.records import Source
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays, episode_frames
from lapa.data.splits import split_rows
from lapa.data.windows import episode_windows, summed_actions
from lapa.errors import DataError
from lapa.models.latent_action.model import LatentActionModel
from lapa.types.batches import FramePair

SCORED_SHARE = 0.3
"""Of the episodes: probes are scored on them and fitted on the other ones. The first to be held out are the ones
that training holds out too (the same hash decides), so the model saw the fewest of them."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Frame pairs of some episodes of one dataset, in order of episode and time."""

    codes: Int64[np.ndarray, "m k"]
    vectors: Float[np.ndarray, "m v"]
    """Before quantization."""
    row: Int64[np.ndarray, " m"]
    """Of the episode in the dataset's index."""
    timestep: Int64[np.ndarray, " m"]
    """Of the current frame."""
    camera: Float[np.ndarray, "m 3"]
    """Motion of the whole picture: right and down, in shares of the side, and brighter, as a share."""
    motion: dict[Target, Float[np.ndarray, "m a"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: np.ndarray) -> "Pairs":
        """Some pairs, by number or by mask."""
        columns = {name: getattr(self, name)[index] for name in ("codes", "vectors", "row", "timestep", "camera")}
        return replace(self, **columns, motion={target: values[index] for target, values in self.motion.items()})

    def where(self, rows: np.ndarray) -> "Pairs":
        return self.take(np.isin(self.row, rows))


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One dataset as one latent-action model sees it."""

    source: Source
    dataset: Dataset
    window_seconds: float
    codebook_size: int
    pairs: Pairs
    fit_rows: Int64[np.ndarray, " e"]
    scored_rows: Int64[np.ndarray, " e"]
    names: dict[Target, tuple[str, ...]]
    """Of the dimensions of each kind of motion."""

    @property
    def fit(self) -> Pairs:
        return self.pairs.where(self.fit_rows)

    @property
    def scored(self) -> Pairs:
        return self.pairs.where(self.scored_rows)

    def window(self, row: int) -> int:
        """Timesteps."""
        return int(episode_windows(self.dataset, self.window_seconds)[row])

    def instructions(self, rows: np.ndarray) -> list[str]:
        column = self.dataset.index["instruction"]
        return [column[int(row)].as_py() or "" for row in rows]


def encode_dataset(
    model: LatentActionModel, dataset: Dataset, *, window_seconds: float, max_pairs: int, name: str = ""
) -> Encoded:
    """Frame pairs of episodes in random order, until there are `max_pairs`, 30 % of them to score probes on.

    DataError where the dataset has no two episodes as long as the window.
    """
    fit, scored = (_long_enough(dataset, rows, window_seconds) for rows in split_rows(dataset, SCORED_SHARE))
    if not len(fit) or not len(scored):
        raise DataError(
            f"{dataset.url} has {len(fit) + len(scored)} episodes longer than the window of {window_seconds:g} s, and "
            "an analysis needs one to fit on and another to score. Choose a larger dataset or a shorter window."
        )
    fit = _first(dataset, fit, window_seconds, round(max_pairs * (1 - SCORED_SHARE)))
    scored = _first(dataset, scored, window_seconds, round(max_pairs * SCORED_SHARE))
    chosen = np.sort(np.concatenate([fit, scored]))
    windows = episode_windows(dataset, window_seconds)
    pairs = _joined([_episode(model, dataset, int(row), int(windows[row])) for row in chosen])
    return Encoded(
        source=source_of(dataset, name),
        dataset=dataset,
        window_seconds=window_seconds,
        codebook_size=model.config.codebook_size,
        pairs=pairs,
        fit_rows=np.sort(fit),
        scored_rows=np.sort(scored),
        names=_names(dataset, pairs),
    )


def source_of(dataset: Dataset, name: str = "") -> Source:
    embodiments = "+".join(dataset.info.embodiments)
    return Source(url=dataset.url, digest=dataset.revision, name=name or embodiments)


@torch.inference_mode()
def encode_frames(
    model: LatentActionModel, frames: UInt8[np.ndarray, "t h w 3"], window: int
) -> tuple[Int64[np.ndarray, "m k"], Float[np.ndarray, "m v"]]:
    """Codes and vectors of every frame pair of an episode, m = t - window."""
    device = next(model.parameters()).device
    codes, vectors = [], []
    for current, future in pair_batches(frames, window):
        action = model.encode(FramePair(current=current.to(device), future=future.to(device)))
        codes.append(action.codes.cpu().numpy())
        vectors.append(action.vectors.float().cpu().numpy().reshape(len(current), -1))
    return np.concatenate(codes), np.concatenate(vectors)


def _episode(model: LatentActionModel, dataset: Dataset, row: int, window: int) -> Pairs:
    frames = episode_frames(dataset, row)
    codes, vectors = encode_frames(model, frames, window)
    arrays = episode_arrays(dataset, row) if dataset.index["has_actions"][row].as_py() else {}
    return Pairs(
        codes=codes,
        vectors=vectors,
        row=np.full(len(codes), row, np.int64),
        timestep=np.arange(len(codes), dtype=np.int64),
        camera=camera_motion(frames, window),
        motion=_motion(arrays, window),
    )


def _motion(arrays: dict[str, np.ndarray], window: int) -> dict[Target, np.ndarray]:
    """See `lapa.analysis.results.Target`."""
    motion: dict[Target, np.ndarray] = {}
    if "actions" in arrays:
        motion["actions"] = summed_actions(arrays["actions"], window)
    if "proprioception" in arrays:
        state = arrays["proprioception"].astype(np.float64)
        motion["relative"] = state[window:] - state[:-window]
        motion["absolute"] = state[window:]
    return motion


def _joined(episodes: list[Pairs]) -> Pairs:
    """Motion is kept where every episode has it."""
    targets = set.intersection(*(set(episode.motion) for episode in episodes))
    columns = {
        name: np.concatenate([getattr(episode, name) for episode in episodes])
        for name in ("codes", "vectors", "row", "timestep", "camera")
    }
    order: tuple[Target, ...] = ("actions", "relative", "absolute")
    motion = {
        target: np.concatenate([episode.motion[target] for episode in episodes])
        for target in order
        if target in targets
    }
    return Pairs(**columns, motion=motion)


def _names(dataset: Dataset, pairs: Pairs) -> dict[Target, tuple[str, ...]]:
    found: dict[Target, tuple[str, ...]] = {}
    for target, values in pairs.motion.items():
        size = values.shape[1]
        known = dataset.info.action_names if target == "actions" else ()
        letter = "action" if target == "actions" else "state"
        found[target] = known if len(known) == size else tuple(f"{letter} {i}" for i in range(size))
    return found


def _long_enough(dataset: Dataset, rows: np.ndarray, window_seconds: float) -> np.ndarray:
    lengths = dataset.index["num_frames"].to_numpy()
    windows = episode_windows(dataset, window_seconds)
    return np.array([row for row in rows if lengths[row] > windows[row]], dtype=np.int64)


def _first(dataset: Dataset, rows: np.ndarray, window_seconds: float, max_pairs: int) -> np.ndarray:
    """Rows in random order until their pairs suffice; at least one."""
    rows = np.random.default_rng(0).permutation(rows)
    lengths = dataset.index["num_frames"].to_numpy()[rows]
    windows = episode_windows(dataset, window_seconds)[rows]
    before = np.concatenate([[0], np.cumsum(lengths - windows)[:-1]])
    return np.asarray(rows[before < max_pairs])
