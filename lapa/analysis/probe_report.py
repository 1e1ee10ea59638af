"""The whole answer of `lapactl probe`, with verdicts in words."""

from collections.abc import Callable

from lapa.analysis.latents import Encoded
from lapa.analysis.leakage import camera_leakage
from lapa.analysis.probe_results import (
    LEAKS,
    CameraLeakage,
    CodeUsage,
    ProbeReport,
    ProbeScore,
    Reconstruction,
    Transfer,
)
from lapa.analysis.probing import code_usage, information_about, probe_scores
from lapa.analysis.reconstruction import reconstructions
from lapa.analysis.records import Source
from lapa.analysis.transfer import transfer_scores
from lapa.models.latent_action.model import LatentActionModel

MEANS_MOTION = 0.5
"""R2 from which codes are said to name motion."""
FEW_EPISODES = 10


def probe_report(
    model: LatentActionModel,
    source: Source,
    encoded: Encoded,
    *,
    floor: LatentActionModel | None = None,
    other: Encoded | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> ProbeReport:
    """Everything a latent-action model answers for on one dataset; `other` is where its codes are taken to."""
    progress("probes")
    scores = probe_scores(encoded)
    progress("information")
    information = information_about(encoded)
    camera = camera_leakage(encoded)
    progress("reconstruction")
    reconstruction = reconstructions(model, encoded, floor=floor)
    if other is not None:
        progress("transfer")
    transfer = transfer_scores(encoded, other) if other is not None else None
    usage = code_usage(encoded)
    return ProbeReport(
        model=source,
        dataset=encoded.source,
        window_seconds=encoded.window_seconds,
        windows=tuple(sorted({encoded.window(int(row)) for row in encoded.fit_rows})),
        num_fit_episodes=len(encoded.fit_rows),
        num_scored_episodes=len(encoded.scored_rows),
        num_fit_pairs=len(encoded.fit),
        num_scored_pairs=len(encoded.scored),
        usage=usage,
        scores=scores,
        information=information,
        camera=camera,
        reconstruction=reconstruction,
        transfer=transfer,
        messages=(*_on_size(encoded), *verdicts(scores, usage, camera, reconstruction, transfer)),
    )


def verdicts(
    scores: tuple[ProbeScore, ...],
    usage: CodeUsage | None,
    camera: CameraLeakage,
    reconstruction: tuple[Reconstruction, ...],
    transfer: Transfer | None,
) -> tuple[str, ...]:
    """What the numbers mean, the most important first."""
    found = [
        *_on_usage(usage),
        *_on_motion(scores),
        *_on_camera(camera),
        *_on_reconstruction(reconstruction),
        *_on_transfer(transfer),
    ]
    return tuple(found)


def _on_size(encoded: Encoded) -> list[str]:
    episodes = len(encoded.scored_rows)
    if episodes >= FEW_EPISODES:
        return []
    return [f"Only {episodes} episodes could be scored, so these numbers are rough: look at their intervals."]


def _on_usage(usage: CodeUsage | None) -> list[str]:
    if usage is None or usage.joint_perplexity >= 1.5:
        return []
    return [
        f"The codebook has collapsed: {usage.joint_perplexity:.1f} latent actions are in use (perplexity), so the "
        "codes name nothing, and no policy can be learned from them."
    ]


def _on_motion(scores: tuple[ProbeScore, ...]) -> list[str]:
    held = [s for s in scores if s.target == "actions" and s.condition == "held-out" and s.features != "vectors"]
    held = held or [s for s in scores if s.target == "actions" and s.condition == "held-out"]
    known = [(s.mean.r2, s) for s in held if s.mean.r2 is not None]
    if not known:
        return ["The dataset has no recorded actions that vary, so nothing says whether the codes mean motion."]
    best, score = max(known, key=lambda item: item[0])
    within = _control(scores, score, "shuffled-time")
    if best <= 0:
        return [
            "The codes tell nothing of the true actions on held-out episodes: no probe beats their mean "
            f"(R2 {best:.2f})."
        ]
    verdict = "The codes name motion" if best >= MEANS_MOTION else "The codes hardly name motion"
    words = f"{verdict}: they explain {best:.0%} of the true actions on held-out episodes ({_kind(score)}"
    if within is not None:
        words += f"; {max(within, 0):.0%} is known from the episode alone"
    return [f"{words})."]


def _on_camera(camera: CameraLeakage) -> list[str]:
    if not camera.moves:
        return ["The camera and the light rest in this dataset, so they cannot leak into the codes."]
    if camera.code_share is None:
        return []
    if camera.code_share < LEAKS:
        return [f"Camera and light explain {camera.code_share:.0%} of what the codes say."]
    words = f"Camera and light explain {camera.code_share:.0%} of what the codes say"
    if camera.action_share is not None:
        words += f" (of what the actions say: {camera.action_share:.0%})"
    return [
        f"{words}: codes are spent on what no action does. Try laq.model.target.motion_mask=0.8, then laq.supervision."
    ]


def _on_reconstruction(reconstruction: tuple[Reconstruction, ...]) -> list[str]:
    by_name = {item.name: item for item in reconstruction}
    codes, floor = by_name.get("codes"), by_name.get("withheld", by_name.get("constant-code"))
    if codes is None:
        return []
    words = f"With the codes, the future frame is predicted with {codes.of_copy:.0%} of the error of copying"
    if floor is not None:
        what = "a model without codes" if floor.name == "withheld" else "one code for all pairs"
        words += f"; with {what}, {floor.of_copy:.0%}"
    return [f"{words}."]


def _on_transfer(transfer: Transfer | None) -> list[str]:
    if transfer is None:
        return []
    if not transfer.scores:
        return [transfer.note]
    score = transfer.scores[0]
    taken, anew = score.transferred.r2, score.refitted.r2
    if taken is None or anew is None:
        return []
    return [
        f"Taken to {transfer.dataset.name or transfer.dataset.url} as it is, the linear probe explains {taken:.0%} of "
        f"the actions there; fitted anew, {anew:.0%}."
    ]


def _control(scores: tuple[ProbeScore, ...], like: ProbeScore, condition: str) -> float | None:
    for score in scores:
        if (score.features, score.probe, score.target, score.condition) == (
            like.features, like.probe, like.target, condition,
        ):  # fmt: skip
            return score.mean.r2
    return None


def _kind(score: ProbeScore) -> str:
    probe = "a small network" if score.probe == "mlp" else "a linear map"
    what = {"codes": "the codes", "joint": "whole latent actions", "vectors": "the vectors"}[score.features]
    return f"{probe} from {what}"
