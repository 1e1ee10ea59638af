"""What the probes found about the models of several runs, one row per number: R2 of motion, bits, errors."""

from collections.abc import Iterator, Sequence

from lapa.analysis.probe_results import Condition, Features, Probe, ProbeReport, ProbeScore, Target
from lapa.analysis.results import AnalysisResult
from lapa.report.meaning import FEATURES, PROBES, RECONSTRUCTIONS

Row = tuple[str, list[float | None]]
Asked = tuple[Features, Probe, Target, Condition]

_SCORES: dict[Asked, str] = {
    ("codes", "linear", "actions", "held-out"): f"R² of actions, {PROBES['linear']} from {FEATURES['codes']}",
    ("joint", "linear", "actions", "held-out"): f"R² of actions, {PROBES['linear']} from {FEATURES['joint']}",
    ("codes", "mlp", "actions", "held-out"): f"R² of actions, {PROBES['mlp']} from {FEATURES['codes']}",
    ("vectors", "linear", "actions", "held-out"): f"R² of actions, {PROBES['linear']} from {FEATURES['vectors']}",
    ("joint", "linear", "relative", "held-out"): f"R² of how far it moved, {PROBES['linear']} from {FEATURES['joint']}",
    ("joint", "linear", "actions", "shuffled-pairs"): "R² of actions by chance (motion of any other pair)",
    ("joint", "linear", "actions", "shuffled-time"): "R² of actions from the episode alone (motion of another time)",
}


def probe_rows(results: Sequence[AnalysisResult | None]) -> list[Row]:
    """Numbers that at least one of the results has, each dataset's own under its role; None where one has none."""
    found = [dict(_numbers(result)) if result else {} for result in results]
    names = dict.fromkeys(name for numbers in found for name in numbers)
    return [(name, [numbers.get(name) for numbers in found]) for name in names]


def _numbers(result: AnalysisResult) -> Iterator[tuple[str, float]]:
    for role, report in result.probes.items():
        for name, value in _of_report(report):
            if value is not None:
                yield f"{role}: {name}", value


def _of_report(report: ProbeReport) -> Iterator[tuple[str, float | None]]:
    for asked, name in _SCORES.items():
        yield name, _r2(report.score(*asked))
    bits = next((item.bits for item in report.information if (item.codes, item.about) == ("joint", "all")), None)
    yield "bits of motion that latent actions tell", bits
    if report.usage is not None:
        yield "latent actions in use (perplexity)", report.usage.joint_perplexity
    if report.camera is not None:
        yield "share of the codes that camera and light explain", report.camera.code_share
    for item in report.reconstruction:
        if item.name != "copy":
            yield f"error of the future frame over copying the first, {RECONSTRUCTIONS[item.name]}", item.of_copy


def _r2(score: ProbeScore | None) -> float | None:
    return score.mean.r2 if score is not None else None
