"""The same code on several datasets: does it mean the same change there?"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int64

from lapa.analysis.drawing import Tile, grid
from lapa.analysis.exhibit_results import Across
from lapa.analysis.exhibits import Exhibit, code_name
from lapa.analysis.latents import Encoded
from lapa.data.frames import episode_frames

MOST_CODES = 6
EXAMPLES = 2
"""Frame pairs of each code from each dataset."""


def across(datasets: Mapping[str, Encoded]) -> tuple[Across, Exhibit]:
    """By role; at least two. Shown are the codes that every dataset uses most."""
    sides = list(datasets.values())
    codes, counts = _counted(sides)
    shared = np.argsort(-np.min(counts / counts.sum(axis=1, keepdims=True), axis=0), kind="stable")[:MOST_CODES]
    shared = shared[counts[:, shared].min(axis=0) > 0]
    found = Across(
        datasets=tuple(side.source for side in sides),
        codes=tuple(code_name(codes[i]) for i in shared),
        counts={code_name(code): tuple(counts[:, i].tolist()) for i, code in enumerate(codes)},
        usage_overlap=_overlap(counts / counts.sum(axis=1, keepdims=True)),
        motion_agreement=_agreement(sides, codes, counts),
    )
    return found, _exhibit(found, datasets, codes[shared])


def _exhibit(found: Across, datasets: Mapping[str, Encoded], codes: Int64[np.ndarray, "s k"]) -> Exhibit:
    agreement = (
        f" Their mean motions agree to {found.motion_agreement:.2f} (cosine; 1 is the same direction)."
        if found.motion_agreement is not None
        else ""
    )
    each = 2 * EXAMPLES
    rows = [[tile for side in datasets.values() for tile in _examples(side, code)] for code in codes]
    return Exhibit(
        kind="across",
        name="across",
        title="The same code on several datasets",
        caption=(
            f"Each row is one latent action, seen on {' and on '.join(datasets)}: pairs of now and later. The same "
            f"kind of change should be seen on every side. The datasets' use of codes overlaps to "
            f"{found.usage_overlap:.0%}.{agreement}"
        ),
        alt=f"Examples of {len(found.codes)} latent actions from {len(datasets)} datasets.",
        still=grid(
            rows or [[None] * each * len(datasets)],
            row_names=[code_name(code) for code in codes] or ["none"],
            column_names=[word for _ in datasets for _ in range(EXAMPLES) for word in ("now", "later")],
            groups=list(datasets),
        ),
    )


def _examples(side: Encoded, code: Int64[np.ndarray, " k"]) -> list[Tile | None]:
    """Pairs of different episodes where there are some, from their middle."""
    index = np.flatnonzero((side.pairs.codes == code).all(axis=1))
    rows, first = np.unique(side.pairs.row[index], return_index=True)
    spread = np.unique(np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).astype(np.int64))
    tiles: list[Tile | None] = []
    for place in spread:
        pair = index[first[place]]
        row, timestep = int(side.pairs.row[pair]), int(side.pairs.timestep[pair])
        frames = episode_frames(side.dataset, row)
        tiles += [Tile(frame=frames[timestep]), Tile(frame=frames[timestep + side.window(row)])]
    return tiles + [None] * (2 * EXAMPLES - len(tiles))


def _counted(sides: Sequence[Encoded]) -> tuple[Int64[np.ndarray, "s k"], Int64[np.ndarray, "d s"]]:
    """Every latent action seen anywhere, and how often each dataset shows it."""
    together = np.concatenate([side.pairs.codes for side in sides])
    codes, labels = np.unique(together, axis=0, return_inverse=True)
    ends = np.cumsum([len(side.pairs) for side in sides])[:-1]
    counts = [np.bincount(part, minlength=len(codes)) for part in np.split(labels.reshape(-1), ends)]
    return codes, np.stack(counts)


def _overlap(shares: Float[np.ndarray, "d s"]) -> float:
    """1 - Jensen-Shannon divergence over its maximum, log of the number of datasets."""

    def nats(rows: np.ndarray) -> np.ndarray:
        logs = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
        return np.asarray(-(rows * logs).sum(axis=-1))

    divergence = nats(shares.mean(axis=0)) - nats(shares).mean()
    return float(1 - divergence / np.log(len(shares)))


def _agreement(sides: Sequence[Encoded], codes: Int64[np.ndarray, "s k"], counts: np.ndarray) -> float | None:
    """Mean cosine over pairs of datasets and over codes, each code weighted by its smaller share. Motion is taken
    around its mean and in units of its spread on each dataset, so that units do not matter."""
    comparable = [(counts[i], side) for i, side in enumerate(sides) if "actions" in side.pairs.motion]
    if len(comparable) < 2 or len({side.names["actions"] for _, side in comparable}) > 1:
        return None
    means = [_mean_motion(side.pairs.codes, side.pairs.motion["actions"], codes) for _, side in comparable]
    agreements, weights = [], []
    for (i, first), (j, second) in itertools.combinations(enumerate(means), 2):
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        use = np.minimum(comparable[i][0] / comparable[i][0].sum(), comparable[j][0] / comparable[j][0].sum())
        weight = np.where(lengths > 1e-9, use, 0.0)
        agreements.append((first * second).sum(axis=1) / np.maximum(lengths, 1e-9))
        weights.append(weight)
    total = np.sum(weights)
    return float(np.sum(np.multiply(agreements, weights)) / total) if total > 0 else None


def _mean_motion(seen: np.ndarray, motion: np.ndarray, codes: np.ndarray) -> Float[np.ndarray, "s a"]:
    """Zeros for codes that are not seen."""
    spread = motion.std(axis=0)
    scaled = (motion - motion.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    means = [scaled[(seen == code).all(axis=1)] for code in codes]
    return np.stack([mine.mean(axis=0) if len(mine) else np.zeros(motion.shape[1]) for mine in means])
