"""How much of the codes tells of the camera and the light instead of the robot. m frame pairs, f features."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from lapa.analysis.camera import GLOBAL_MOTION
from lapa.analysis.information import clustered, joint_labels, tie
from lapa.analysis.latents import Encoded, Pairs
from lapa.analysis.probe_results import CameraLeakage
from lapa.analysis.probing import reader
from lapa.analysis.records import Score
from lapa.analysis.regression import fit
from lapa.analysis.scores import r2_scores

LEAST_SHIFT = 0.003
"""Of the side. Less is what the estimate says of a camera at rest."""
LEAST_LIGHT = 0.005
"""As a share of the brightness."""

Column = Callable[[Pairs], np.ndarray]
"""Frame pairs -> features or targets, m f."""


def camera_leakage(encoded: Encoded) -> CameraLeakage:
    """From the codes, or from the vectors where there are no codes. Directions in which the picture hardly ever moves
    are left out: what is estimated of them is noise."""
    spread = encoded.pairs.camera.std(axis=0)
    moves = spread >= (LEAST_SHIFT, LEAST_SHIFT, LEAST_LIGHT)
    latents = reader(encoded, "codes" if encoded.codebook_size else "vectors")
    from_camera, from_codes, from_both = _actions_from(encoded, latents, moves)
    return CameraLeakage(
        global_motion=_global_motion(encoded, latents, moves),
        spread=dict(zip(GLOBAL_MOTION, spread.tolist(), strict=True)),
        moves=bool(moves.any()),
        code_share=_share(encoded, joint_labels(encoded.pairs.codes), moves) if encoded.codebook_size else None,
        action_share=_action_share(encoded, moves),
        actions_from_camera=from_camera,
        actions_from_both=from_both,
        actions_from_codes=from_codes,
    )


def _global_motion(encoded: Encoded, latents: Column, moves: Bool[np.ndarray, " 3"]) -> dict[str, Score]:
    _, named = _predicted(encoded, latents, lambda pairs: pairs.camera, GLOBAL_MOTION)
    return {name: named[name] if moves[i] else Score(r2=None) for i, name in enumerate(GLOBAL_MOTION)}


def _actions_from(
    encoded: Encoded, latents: Column, moves: Bool[np.ndarray, " 3"]
) -> tuple[Score | None, Score | None, Score | None]:
    """R2 of the actions from global motion, from the codes, and from both."""
    if "actions" not in encoded.pairs.motion:
        return None, None, None
    camera = _camera_features(encoded, moves)
    columns = (camera, latents, lambda pairs: np.concatenate([latents(pairs), camera(pairs)], axis=1))
    names = encoded.names["actions"]
    scores = [_predicted(encoded, column, lambda pairs: pairs.motion["actions"], names)[0] for column in columns]
    return scores[0], scores[1], scores[2]


def _camera_features(encoded: Encoded, moves: Bool[np.ndarray, " 3"]) -> Column:
    """Global motion in units of its own spread, and its squares; zeros where the picture rests."""
    spread = np.where(moves, encoded.pairs.camera.std(axis=0), np.inf)

    def read(pairs: Pairs) -> Float[np.ndarray, "m 6"]:
        scaled = pairs.camera / spread
        return np.concatenate([scaled, scaled**2], axis=1)

    return read


def _predicted(
    encoded: Encoded, features: Column, targets: Column, names: tuple[str, ...]
) -> tuple[Score, dict[str, Score]]:
    fitting, scored = encoded.fit, encoded.scored
    predict = fit("linear", features(fitting), targets(fitting), fitting.row)
    return r2_scores(targets(scored), predict(features(scored)), scored.row, names)


def _share(encoded: Encoded, labels: np.ndarray, moves: Bool[np.ndarray, " 3"]) -> float:
    """Of the labels' entropy: what global motion tells."""
    if not moves.any():
        return 0.0
    return tie(labels, clustered(encoded.pairs.camera[:, moves])).share_of_first


def _action_share(encoded: Encoded, moves: Bool[np.ndarray, " 3"]) -> float | None:
    if "actions" not in encoded.pairs.motion:
        return None
    return _share(encoded, clustered(encoded.pairs.motion["actions"]), moves)
