"""From latent action to action: where each code moves things, in two dimensions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lapa.analysis.atlas import frequent_codes
from lapa.analysis.drawing import motion_map
from lapa.analysis.exhibit_results import CodeMotion, Scatter
from lapa.analysis.exhibits import Exhibit, code_name
from lapa.analysis.information import joint_labels
from lapa.analysis.latents import Encoded
from lapa.errors import ConfigError

MOST_CODES = 16
LEAST_PAIRS = 3
"""A code seen less often has no spread to show."""


def scatter(
    encoded: Encoded, role: str, *, dimensions: Sequence[str] = (), position: int | None = None
) -> tuple[Scatter, Exhibit]:
    """Of `actions`, in the dimensions of these names; in the first two that vary where none are named.

    ConfigError names the dimensions there are where one of these is not among them, or the positions there are.
    """
    columns, names = _columns(encoded, dimensions)
    points = encoded.pairs.motion["actions"][:, columns]
    codes = _codes(encoded, position)
    found = Scatter(
        dataset=encoded.source,
        position=position,
        dimensions=names,
        codes=tuple(_motions(codes, points)),
        num_pairs=len(points),
        explained=_explained(codes, points),
    )
    return found, _exhibit(found, encoded, role, points)


def _exhibit(found: Scatter, encoded: Encoded, role: str, points: np.ndarray) -> Exhibit:
    known = zip(found.explained, found.dimensions, strict=True)
    explained = " and ".join(f"{share:.0%} of {name}" for share, name in known if share is not None)
    what = "latent action" if found.position is None else f"code at position {found.position}"
    return Exhibit(
        kind="scatter",
        name=f"scatter-{role}",
        title=f"Where each code moves ({role})",
        caption=(
            f"True motion over {encoded.window_seconds:g} s. Each arrow is the mean over the frame pairs with one "
            f"{what}, each ellipse one standard deviation; darker is more frequent, the label gives code and count. "
            f"Codes that name motion point apart, with small ellipses. Codes explain {explained or 'nothing'}."
        ),
        alt=f"Mean motion of {len(found.codes)} codes in {found.dimensions[0]} and {found.dimensions[1]}.",
        still=motion_map(found.codes, dimensions=found.dimensions, points=points),
    )


def _columns(encoded: Encoded, dimensions: Sequence[str]) -> tuple[list[int], tuple[str, str]]:
    names = encoded.names["actions"]
    if dimensions:
        unknown = [name for name in dimensions if name not in names]
        if unknown or len(dimensions) != 2:
            raise ConfigError(
                f"--dimensions {','.join(dimensions)} does not name two dimensions of this dataset; "
                f"it has {', '.join(names)}."
            )
        columns = [names.index(name) for name in dimensions]
    else:
        varies = np.flatnonzero(encoded.pairs.motion["actions"].std(axis=0) > 1e-9).tolist()
        columns = (varies + [i for i in range(len(names)) if i not in varies])[:2]
        columns = columns if len(columns) == 2 else [0, 0]
    return columns, (names[columns[0]], names[columns[1]])


def _codes(encoded: Encoded, position: int | None) -> np.ndarray:
    codes = encoded.pairs.codes
    if position is None:
        return codes
    if not 0 <= position < codes.shape[1]:
        raise ConfigError(f"--position {position}: the model has positions 0 to {codes.shape[1] - 1}.")
    return codes[:, position : position + 1]


def _motions(codes: np.ndarray, points: Float[np.ndarray, "m 2"]) -> list[CodeMotion]:
    motions = []
    for code, count in zip(*frequent_codes(codes, MOST_CODES), strict=True):
        if count >= LEAST_PAIRS:
            mine = points[(codes == code).all(axis=1)]
            mean, std = mine.mean(axis=0).tolist(), mine.std(axis=0).tolist()
            together = np.corrcoef(mine.T)[0, 1] if min(std) > 1e-12 else 0.0
            motions.append(
                CodeMotion(
                    code=code_name(code),
                    count=int(count),
                    mean=(mean[0], mean[1]),
                    std=(std[0], std[1]),
                    correlation=float(together),
                )
            )
    return motions


def _explained(codes: np.ndarray, points: Float[np.ndarray, "m 2"]) -> tuple[float | None, float | None]:
    """Adjusted R2 of the codes' means."""
    labels = joint_labels(codes)
    size, groups = len(labels), int(labels.max()) + 1
    counts = np.bincount(labels)[:, None]
    sums = np.zeros((groups, 2))
    np.add.at(sums, labels, points)
    within = np.square(points - (sums / counts)[labels]).sum(axis=0)
    total = np.square(points - points.mean(axis=0)).sum(axis=0)
    if size <= groups:
        return None, None
    shares = [
        float(1 - (within[i] / (size - groups)) / (total[i] / (size - 1))) if total[i] > 1e-12 else None for i in (0, 1)
    ]
    return shares[0], shares[1]
