"""The same model's codes on another dataset or embodiment: do they mean the same motion there?"""

import numpy as np

from lapa.analysis.latents import Encoded
from lapa.analysis.probe_results import Target, Transfer, TransferScore
from lapa.analysis.probing import fit_probe, kinds_for
from lapa.analysis.records import Score
from lapa.analysis.regression import fit
from lapa.analysis.scores import r2_scores


def transfer_scores(encoded: Encoded, other: Encoded) -> Transfer:
    """Fitted on one dataset's fitting episodes, scored on the other's scored episodes; fitted anew there, too."""
    targets = _comparable(encoded, other)
    note = "" if targets else _why(encoded, other)
    return Transfer(
        dataset=other.source,
        num_fit_pairs=len(encoded.fit),
        num_scored_pairs=len(other.scored),
        scores=_scores(encoded, other, targets),
        note=note,
    )


def _comparable(encoded: Encoded, other: Encoded) -> tuple[Target, ...]:
    """Kinds of motion that have as many dimensions on both."""
    mine, theirs = encoded.pairs.motion, other.pairs.motion
    return tuple(name for name in mine if name in theirs and mine[name].shape[1] == theirs[name].shape[1])


def _why(encoded: Encoded, other: Encoded) -> str:
    def told(side: Encoded) -> str:
        dims = {name: values.shape[1] for name, values in side.pairs.motion.items()}
        return ", ".join(f"{name} with {size} dimensions" for name, size in dims.items()) or "no recorded motion"

    return (
        f"There is nothing to compare: {encoded.source.name or encoded.source.url} has {told(encoded)}, "
        f"{other.source.name or other.source.url} has {told(other)}."
    )


def _scores(encoded: Encoded, other: Encoded, targets: tuple[Target, ...]) -> tuple[TransferScore, ...]:
    scores = []
    fitting, scored = other.fit, other.scored
    for features, probe in kinds_for(encoded):
        there = fit_probe(encoded, encoded.fit, features, probe, targets)
        anew = fit_probe(other, fitting, features, probe, targets)
        for target in targets:
            names, truth = other.names[target], scored.motion[target]
            taken = there(scored, target)
            mean, dimensions = r2_scores(truth, taken, scored.row, names)
            align = fit("linear", there(fitting, target), fitting.motion[target], fitting.row)
            scores.append(
                TransferScore(
                    target=target,
                    features=features,
                    probe=probe,
                    transferred=mean,
                    realigned=_mean(truth, align(taken), scored.row, names),
                    refitted=_mean(truth, anew(scored, target), scored.row, names),
                    dimensions=dimensions,
                )
            )
    return tuple(scores)


def _mean(truth: np.ndarray, predicted: np.ndarray, rows: np.ndarray, names: tuple[str, ...]) -> Score:
    return r2_scores(truth, predicted, rows, names)[0]
