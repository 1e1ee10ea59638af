"""Do the codes mean motion? Probes from latents to true motion, with their controls, fitted and scored by episode.

m frame pairs, k codes per frame pair, f features, a dimensions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never, get_args

import numpy as np

from lapa.analysis.information import binned, clustered, entropy, joint_labels, perplexity, tie
from lapa.analysis.latents import Encoded, Pairs
from lapa.analysis.probe_results import CodeUsage, Condition, Features, Information, Probe, ProbeScore, Target
from lapa.analysis.regression import JointCodes, Predictor, code_features, fit
from lapa.analysis.scores import r2_scores

CONTROLS: tuple[Condition, ...] = ("shuffled-pairs", "shuffled-time")
KINDS: tuple[tuple[Features, Probe], ...] = (
    ("codes", "linear"), ("joint", "linear"), ("vectors", "linear"), ("codes", "mlp"), ("vectors", "mlp"),
)  # fmt: skip
"""A network finds what codes mean together by itself, so it does not get `joint`."""

Reader = Callable[[Pairs], np.ndarray]
"""Frame pairs -> features (m f)."""


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A probe of one kind of latents, for all kinds of motion at once; none sees another's, for linear ones exactly."""

    features: Features
    probe: Probe
    read: Reader
    predict: dict[Target, Predictor]

    def __call__(self, pairs: Pairs, target: Target) -> np.ndarray:
        return self.predict[target](self.read(pairs))


def kinds_for(encoded: Encoded) -> tuple[tuple[Features, Probe], ...]:
    """Continuous latents have no codes to read."""
    return tuple(kind for kind in KINDS if encoded.codebook_size or kind[0] == "vectors")


def fit_probe(
    encoded: Encoded, pairs: Pairs, features: Features, probe: Probe, targets: Iterable[Target]
) -> FittedProbe:
    """On `pairs`, which may be the fitting pairs of `encoded` or shuffled ones."""
    read = reader(encoded, features)
    x = read(pairs)
    predict = {target: fit(probe, x, pairs.motion[target], pairs.row) for target in targets}
    return FittedProbe(features=features, probe=probe, read=read, predict=predict)


def reader(encoded: Encoded, features: Features) -> Reader:
    match features:
        case "codes":
            return lambda pairs: code_features(pairs.codes, encoded.codebook_size)
        case "joint":
            joint = JointCodes(encoded.fit.codes, encoded.codebook_size)
            return lambda pairs: joint(pairs.codes)
        case "vectors":
            return lambda pairs: pairs.vectors
        case _:
            assert_never(features)


def probe_scores(encoded: Encoded) -> tuple[ProbeScore, ...]:
    """Every kind of probe on held-out episodes; the controls for the linear ones and for `actions`."""
    scores: list[ProbeScore] = []
    targets = tuple(encoded.pairs.motion)
    for condition in get_args(Condition):
        fitting, scored = (shuffled(pairs, condition) for pairs in (encoded.fit, encoded.scored))
        for features, probe in kinds_for(encoded):
            wanted = targets if condition == "held-out" or probe == "linear" else targets[:1]
            fitted = fit_probe(encoded, fitting, features, probe, wanted)
            for target in wanted:
                mean, dimensions = r2_scores(
                    scored.motion[target], fitted(scored, target), scored.row, encoded.names[target]
                )
                scores.append(
                    ProbeScore(
                        features=features,
                        probe=probe,
                        target=target,
                        condition=condition,
                        mean=mean,
                        dimensions=dimensions,
                    )
                )
    return tuple(scores)


def shuffled(pairs: Pairs, condition: Condition) -> Pairs:
    """Pairs whose motion is another pair's, as the control wants it; see `lapa.analysis.results.Condition`."""
    rng = np.random.default_rng(0)
    match condition:
        case "held-out":
            return pairs
        case "shuffled-pairs":
            order = rng.permutation(len(pairs))
        case "shuffled-time":
            order = np.lexsort((rng.random(len(pairs)), pairs.row))  # pairs stand in order of their episodes
        case _:
            assert_never(condition)
    motion = {target: values[order] for target, values in pairs.motion.items()}
    return Pairs(
        codes=pairs.codes,
        vectors=pairs.vectors,
        row=pairs.row,
        timestep=pairs.timestep,
        camera=pairs.camera,
        motion=motion,
    )


def information_about(encoded: Encoded, target: Target = "actions") -> tuple[Information, ...]:
    """Whole latent actions and each position's codes, about every dimension and about all of them."""
    if not encoded.codebook_size or target not in encoded.pairs.motion:
        return ()
    pairs, motion = encoded.pairs, encoded.pairs.motion[target]
    codes = {"joint": joint_labels(pairs.codes)}
    codes |= {f"position {i}": pairs.codes[:, i] for i in range(pairs.codes.shape[1])}
    about = {"all": clustered(motion)}
    about |= {name: binned(motion[:, i]) for i, name in enumerate(encoded.names[target])}
    found = []
    for which, labels in codes.items():
        for what, bins in about.items():
            shared = tie(labels, bins)
            found.append(
                Information(
                    codes=which,
                    about=what,
                    bits=shared.bits,
                    bits_uncorrected=shared.uncorrected,
                    bits_by_chance=shared.chance,
                    entropy=shared.second_entropy,
                    code_entropy=entropy(labels),
                )
            )
    return tuple(found)


def code_usage(encoded: Encoded) -> CodeUsage | None:
    if not encoded.codebook_size:
        return None
    codes = encoded.pairs.codes
    joint = joint_labels(codes)
    return CodeUsage(
        codebook_size=encoded.codebook_size,
        codes_per_pair=codes.shape[1],
        perplexity=tuple(perplexity(codes[:, i]) for i in range(codes.shape[1])),
        joint_perplexity=perplexity(joint),
        joint_used=int(joint.max()) + 1,
        num_pairs=len(codes),
    )
