"""Whether the codes name changes, in one word, and what to do when they do not."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa.report.summary import CodebookRules, Series, StageSummary

WEAK_SHARE = 0.4
"""A codebook whose perplexity is below this share of its size is weak."""
MAX_DEAD_SHARE = 0.25
POSITION = re.compile(r"validation/perplexity/position-(\d+)")


class CodeHealth(BaseModel):
    """The verdict on a trained codebook."""

    model_config = ConfigDict(frozen=True)

    verdict: Literal["healthy", "weak", "collapsed", "unknown"]
    headline: str
    advice: tuple[str, ...]


def validation_value(stage: StageSummary, name: str) -> float | None:
    """A metric of the last validation, as `LaqTask` names it: from the result, else from the log."""
    if name in stage.metrics:
        return stage.metrics[name]
    points = stage.history.get(f"validation/{name}")
    return points[-1][1] if points else None


def perplexity_per_position(stage: StageSummary) -> dict[int, Series]:
    """Position of a code within the latent action -> its perplexity over the validations."""
    found = {name: POSITION.fullmatch(name) for name in stage.history}
    return {int(match.group(1)): stage.history[name] for name, match in sorted(found.items()) if match}


def judge(stage: StageSummary | None, rules: CodebookRules) -> CodeHealth:
    """Read a `laq` stage's numbers. Without them the verdict is `unknown`."""
    perplexity = validation_value(stage, "perplexity") if stage is not None else None
    if stage is None or perplexity is None:
        return CodeHealth(
            verdict="unknown", headline="The latent-action model has not been trained and validated yet.", advice=()
        )
    size = rules.codebook_size
    used = f"perplexity {perplexity:.2f} of {size} codes"
    if perplexity < rules.min_perplexity or perplexity <= 1.0:
        return CodeHealth(
            verdict="collapsed",
            headline=f"The codebook has collapsed: {used}. Every change gets nearly the same name, so labels made "
            "from this model carry no information, and pretraining on them teaches nothing.",
            advice=_advice_collapsed(rules),
        )
    weaknesses = _weaknesses(stage, rules, perplexity)
    if weaknesses:
        return CodeHealth(
            verdict="weak",
            headline=f"The codebook is in use but weak: {used}; {'; '.join(what for what, _ in weaknesses)}.",
            advice=tuple(dict.fromkeys(advice for _, advice in weaknesses)),
        )
    return CodeHealth(verdict="healthy", headline=f"The codebook is healthy: {used}, and every position is in use.",
                      advice=())  # fmt: skip


def _weaknesses(stage: StageSummary, rules: CodebookRules, perplexity: float) -> list[tuple[str, str]]:
    found = []
    if perplexity < WEAK_SHARE * rules.codebook_size:
        found.append((
            "few codes share the work",
            "Look at the code atlas first: few codes are enough for few kinds of motion. If motions are missing, "
            "revive unused codes more often (laq.model.quantizer.revival.every) or train longer (laq.fit.steps).",
        ))  # fmt: skip
    positions = perplexity_per_position(stage)
    idle = [place for place, points in positions.items() if points[-1][1] < rules.min_perplexity]
    if idle:
        listed = ", ".join(map(str, sorted(idle)))
        found.append((
            f"position {listed} says almost nothing",
            f"Fewer codes may do: laq.model.codes_per_pair below {rules.codes_per_pair}. Codes that are used are "
            "easier to learn in pretraining.",
        ))  # fmt: skip
    dead = validation_value(stage, "dead_share")
    if dead is not None and dead > MAX_DEAD_SHARE:
        found.append((
            f"{dead:.0%} of the codes are dead",
            "Revive unused codes for the whole run: laq.model.quantizer.revival.every=100.",
        ))  # fmt: skip
    ratio = validation_value(stage, "relative_error")
    if ratio is not None and ratio >= 1.0:
        found.append((
            f"decoding is no better than copying the current frame (error ratio {ratio:.2f})",
            "The codes do not yet help to predict the future frame: train longer (laq.fit.steps), or widen "
            "laq.window_seconds so that more changes between the two frames.",
        ))  # fmt: skip
    return found


def _advice_collapsed(rules: CodebookRules) -> tuple[str, ...]:
    advice = [
        "Look at the two frames of some pairs: when they hardly differ, widen laq.window_seconds "
        "(the paper uses 0.6 s for robots and 2.4 s for human video).",
    ]
    if rules.quantizer in ("nsvq", "vq_ema"):
        if rules.quantizer == "nsvq":
            advice.append("Start the codebook from data: laq.model.quantizer.initialization=data.")
        advice += [
            "Revive unused codes for the whole run: laq.model.quantizer.revival.every=100.",
            "Or choose a quantizer that has no codebook to collapse: laq.model.quantizer.kind=fsq.",
        ]
    advice.append("Halve laq.fit.optimizer.learning_rate when the perplexity fell suddenly instead of never rising.")
    return tuple(advice)
