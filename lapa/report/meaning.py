"""What the analyses found, as rows and tables: do the codes mean actions?"""

from dataclasses import dataclass

from lapa.analysis.exhibit_results import MediaFile
from lapa.analysis.probe_results import CameraLeakage, Condition, ProbeReport, ProbeScore, Target
from lapa.analysis.records import Score
from lapa.analysis.results import AnalysisResult
from lapa.report.success import IntervalRow
from lapa.report.summary import AnalysisSummary

FEATURES = {"codes": "codes, one by one", "joint": "whole latent actions", "vectors": "latents before quantization"}
PROBES = {"linear": "linear map", "mlp": "small network"}
CONTROLS: dict[Condition, str] = {
    "shuffled-pairs": "control: motion of any other pair",
    "shuffled-time": "control: motion of another time in the episode",
}
TARGETS: dict[Target, str] = {
    "actions": "The robot's actions between both frames",
    "relative": "How far the robot moved",
    "absolute": "Where the robot ended (a place, not a motion: low is good)",
}
RECONSTRUCTIONS = {
    "codes": "the pair's own codes",
    "shuffled-codes": "another pair's codes",
    "constant-code": "one latent action for all pairs",
    "withheld": "a model trained without codes: the floor",
    "copy": "the first frame as it is",
}


@dataclass(frozen=True, kw_only=True)
class ProbeTable:
    """R2 of one target: an interval plot, and numbers per dimension."""

    title: str
    rows: list[IntervalRow]
    dimensions: list[str]
    details: list[tuple[str, list[Score]]]
    """Row, then its score of each dimension."""


@dataclass(frozen=True, kw_only=True)
class ErrorRow:
    """One way to predict the future frame."""

    label: str
    error: float
    of_copy: float
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture or video of an analysis, with what the page needs of it."""

    media: MediaFile
    uri: str | None
    poster: str | None


def probe_tables(report: ProbeReport) -> list[ProbeTable]:
    """One table per target, the held-out scores first, each control once."""
    return [table for target in TARGETS if (table := _table(report, target)).rows]


def error_rows(report: ProbeReport) -> list[ErrorRow]:
    by_name = {item.name: item for item in report.reconstruction}
    return [
        ErrorRow(label=label, error=by_name[name].error, of_copy=by_name[name].of_copy, is_own=name == "codes")
        for name, label in RECONSTRUCTIONS.items()
        if name in by_name
    ]


def camera_words(camera: CameraLeakage) -> str:
    """What of the codes tells of the camera and the light, in one or two sentences."""
    if not camera.moves:
        return "Camera and light stay as they are on this dataset, so nothing of them can leak into the codes."
    told = [f"{name} {score.r2:.2f}" for name, score in camera.global_motion.items() if score.r2 is not None]
    words = f"R² of predicting motion of the whole picture and its light: {', '.join(told) or 'none'}."
    if camera.code_share is None:
        return words
    of_actions = "" if camera.action_share is None else f", and {camera.action_share:.0%} of what the true actions tell"
    return f"{words} They explain {camera.code_share:.0%} of what the codes tell{of_actions}."


def shown_media(analysis: AnalysisSummary, *kinds: str) -> list[Shown]:
    """Pictures and videos of some kinds whose files are there; a still that is a video's poster only there."""
    result: AnalysisResult | None = analysis.result
    if result is None:
        return []
    posters = {item.poster for item in result.media}
    found = [
        Shown(media=item, uri=analysis.media.get(item.file), poster=analysis.media.get(item.poster or ""))
        for item in result.media
        if item.kind in kinds and item.file not in posters
    ]
    return [shown for shown in found if shown.uri or shown.poster]


def _table(report: ProbeReport, target: Target) -> ProbeTable:
    held_out = [s for s in report.scores if s.target == target and s.condition == "held-out"]
    controls = [_best_control(report, target, condition) for condition in CONTROLS]
    scores = [*held_out, *(score for score in controls if score is not None)]
    rows = [row for score in scores if (row := _row(report, score)) is not None]
    return ProbeTable(
        title=TARGETS[target],
        rows=rows,
        dimensions=list(scores[0].dimensions) if scores else [],
        details=[(_label(score), list(score.dimensions.values())) for score in scores],
    )


def _best_control(report: ProbeReport, target: Target, condition: Condition) -> ProbeScore | None:
    """The control that explains most: what the scores above it must beat."""
    found = [s for s in report.scores if s.target == target and s.condition == condition and s.mean.r2 is not None]
    return max(found, key=lambda score: score.mean.r2 or 0.0, default=None)


def _label(score: ProbeScore) -> str:
    if score.condition in CONTROLS:
        return CONTROLS[score.condition]
    return f"{FEATURES[score.features]}, {PROBES[score.probe]}"


def _row(report: ProbeReport, score: ProbeScore) -> IntervalRow | None:
    r2 = score.mean.r2
    if r2 is None:
        return None
    is_control = score.condition in CONTROLS
    return IntervalRow(
        label=_label(score),
        kind="oracle" if is_control else ("policy" if score.features != "vectors" else "baseline"),
        rate=r2,
        low=r2 if score.mean.low is None else score.mean.low,
        high=r2 if score.mean.high is None else score.mean.high,
        count=f"{report.num_scored_pairs:,} pairs",
        note=f"{FEATURES[score.features]}, {PROBES[score.probe]}" if is_control else "",
    )
