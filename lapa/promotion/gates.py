"""The gates: each a function from its settings and the evidence to a verdict."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import assert_never

import numpy as np

from lapa.envs.statistics import compare_paired, wilson_interval
from lapa.errors import LapaError
from lapa.promotion import config as settings
from lapa.promotion.evidence import Evidence, find_evaluation
from lapa.promotion.lineage import Origin
from lapa.promotion.verdicts import Verdict, failed, passed, skipped
from lapa.stages.origin import DATASET_ROLES
from lapa.tracking.code import COMMIT_TAG, IMAGE_TAG
from lapa.tracking.evidence import evaluations_of
from lapa.tracking.registry import INVERSE_DYNAMICS_MODEL, LAQ_MODEL, ModelVersion

METRIC_TAG = "lapa.metric."
CALLS = settings.LatencyGate().calls
"""Of the rehearsal that `loads` asks for, so that `latency` finds it done."""
EVALUATE = (
    "Evaluate it with a simulator, and the result is attached: `lapactl run RUN.YAML`, or `lapactl submit evaluate`."
)


def judge(
    config: settings.PromotionConfig, evidence: Evidence, *, progress: Callable[[str], None] | None = None
) -> tuple[Verdict, ...]:
    """Every gate's verdict, in the file's order; `progress` is told each gate's name before it is judged."""
    verdicts = []
    for name, gate in zip(settings.gate_names(config.gates), config.gates, strict=True):
        if progress is not None:
            progress(name)
        is_overrulable = not isinstance(gate, settings.FilesGate | settings.LoadsGate)
        named = {"gate": name, "is_overrulable": is_overrulable}
        try:
            verdicts.append(verdict(gate, evidence).model_copy(update=named))
        except (LapaError, OSError) as error:
            unknown = failed(f"could not be judged: {error}", "evidence that can be read", "Then repeat the command.")
            verdicts.append(unknown.model_copy(update=named))
    return tuple(verdicts)


def verdict(gate: settings.GateConfig, evidence: Evidence) -> Verdict:
    match gate:
        case settings.SuccessRateGate():
            return success_rate(gate, evidence)
        case settings.NotBelowProductionGate():
            return not_below_production(gate, evidence)
        case settings.CodebookGate():
            return codebook(gate, evidence)
        case settings.ProbeGate():
            return probe(gate, evidence)
        case settings.MetricGate():
            return metric_within(gate, evidence)
        case settings.ProvenanceGate():
            return provenance(evidence)
        case settings.FilesGate():
            return intact_files(evidence)
        case settings.LoadsGate():
            return loads(gate, evidence)
        case settings.LatencyGate():
            return latency(gate, evidence)
        case settings.LicenceGate():
            return licence(gate, evidence)
        case settings.ApprovalGate():
            return approval(gate, evidence)
        case _:
            assert_never(gate)


def success_rate(gate: settings.SuccessRateGate, evidence: Evidence) -> Verdict:
    wanted = f"at least {gate.at_least:.0%} with {gate.confidence:.0%} confidence, over {gate.min_episodes} episodes"
    evaluation = find_evaluation(evidence.version, gate.benchmark)
    if evaluation is None:
        return failed(f"no evaluation{_of(gate.benchmark)} is attached", wanted, EVALUATE)
    outcomes = evidence.outcomes(evaluation)
    successes, episodes = sum(outcome.is_success for outcome in outcomes), len(outcomes)
    interval = wilson_interval(successes, episodes, gate.confidence)
    found = f"{successes / episodes:.1%} [{interval.low:.1%}, {interval.high:.1%}] over {episodes} episodes"
    if episodes < gate.min_episodes:
        return failed(found, wanted, "Evaluate more: evaluate.simulator.episodes.")
    if interval.low < gate.at_least:
        is_close = successes / episodes >= gate.at_least
        close = "more episodes narrow the interval" if is_close else "train a better policy"
        return failed(found, wanted, f"The lower end is below {gate.at_least:.0%}: {close}.")
    return passed(found, wanted)


def not_below_production(gate: settings.NotBelowProductionGate, evidence: Evidence) -> Verdict:
    wanted = f"at worst {gate.margin:.0%} below production, on the same episodes, with {gate.confidence:.0%} confidence"
    if evidence.production is None:
        return skipped("nothing is in production yet", wanted)
    theirs = {evaluation.benchmark: evaluation for evaluation in evaluations_of(evidence.production)}
    mine = [e for e in evaluations_of(evidence.version) if gate.benchmark in (None, e.benchmark)]
    shared = next((evaluation for evaluation in mine if evaluation.benchmark in theirs), None)
    if shared is None:
        have = ", ".join(sorted(evaluation.benchmark for evaluation in mine)) or "none"
        other = f"{evidence.production.name}/{evidence.production.version}"
        found = f"no benchmark was run on both: this has {have}; {other} has {', '.join(sorted(theirs)) or 'none'}"
        return failed(
            found, wanted, f"Evaluate both with the same evaluate.simulator settings and image size. {EVALUATE}"
        )
    first, second = evidence.outcomes(shared), evidence.outcomes(theirs[shared.benchmark])
    if [outcome.seed for outcome in first] != [outcome.seed for outcome in second]:
        return failed("the episodes of the two evaluations differ", wanted, "Evaluate both again.")
    paired = compare_paired(
        np.array([outcome.is_success for outcome in first]), np.array([outcome.is_success for outcome in second])
    )
    z = NormalDist().inv_cdf(0.5 + gate.confidence / 2)
    low = paired.difference - z * paired.standard_error
    found = (
        f"{paired.difference:+.1%}, at worst {low:+.1%}: better on {paired.wins}, worse on {paired.losses}, "
        f"equal on {paired.ties} episodes"
    )
    if low < -gate.margin:
        needed = _episodes_needed(paired.difference, paired.standard_error * sqrt(len(first)), z, gate.margin)
        if needed is None:
            return failed(found, wanted, "It is below production: train a better policy.")
        return failed(found, wanted, f"It may be below production; about {needed} episodes would show that it is not.")
    return passed(found, wanted)


def codebook(gate: settings.CodebookGate, evidence: Evidence) -> Verdict:
    wanted = (
        f"perplexity {gate.min_perplexity:g}, of latent actions {gate.min_joint_perplexity:g}; "
        f"at most {gate.max_dead_share:.0%} dead codes"
    )
    model = _latent_action_model(evidence)
    if isinstance(model, Verdict):
        return model.model_copy(update={"wanted": wanted})
    names = ("perplexity", "joint_perplexity", "dead_share")
    numbers = {name: value for name in names if (value := metric(model, name)) is not None}
    label = f"{model.name}/{model.version}"
    if missing := [name for name in names if name not in numbers]:
        train = "Released weights have none; leave the gate out for them, or train on (laq.train_released=true)."
        return failed(f"{label} was registered without {', '.join(missing)}", wanted, train)
    found = f"{label}: " + ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
    is_healthy = (
        numbers["perplexity"] >= gate.min_perplexity
        and numbers["joint_perplexity"] >= gate.min_joint_perplexity
        and numbers["dead_share"] <= gate.max_dead_share
    )
    return passed(found, wanted) if is_healthy else failed(found, wanted, "Train stage laq again: see laq.health.")


def probe(gate: settings.ProbeGate, evidence: Evidence) -> Verdict:
    wanted = f"codes explain {gate.min_r2:.0%} of the true motion"
    model = _latent_action_model(evidence)
    if isinstance(model, Verdict):
        return model.model_copy(update={"wanted": wanted})
    scores = [value for name in ("additive", "joint") if (value := metric(model, f"probe_r2/{name}")) is not None]
    label = f"{model.name}/{model.version}"
    if not scores:
        return failed(f"{label} was registered without a probe", wanted, "Set laq.gate, which probes while it trains.")
    found = f"{label}: {max(scores):.0%}"
    if max(scores) < gate.min_r2:
        return failed(found, wanted, "The codes do not mean motion; `lapactl probe` shows what they mean.")
    return passed(found, wanted)


def metric_within(gate: settings.MetricGate, evidence: Evidence) -> Verdict:
    limits = {"at least": gate.at_least, "at most": gate.at_most}
    wanted = " and ".join(f"{words} {value:g}" for words, value in limits.items() if value is not None)
    value = metric(evidence.version, gate.name)
    if value is None:
        known = sorted(tag.removeprefix(METRIC_TAG) for tag in evidence.version.tags if tag.startswith(METRIC_TAG))
        return failed(f"{gate.name} was not registered", wanted, f"Registered: {', '.join(known) or 'no metric'}.")
    is_low = gate.at_least is not None and value < gate.at_least
    is_high = gate.at_most is not None and value > gate.at_most
    if is_low or is_high:
        return failed(f"{value:g}", wanted, "Train or evaluate again.")
    return passed(f"{value:g}", wanted)


def provenance(evidence: Evidence) -> Verdict:
    wanted = "every input back to the datasets, the run's settings, and its MLflow run"
    origins = list(evidence.origin.walk())
    gaps = [f"{origin.role}: {origin.gap}" for origin in origins if origin.gap]
    datasets = {origin.digest for origin in origins if origin.role in DATASET_ROLES}
    if not datasets:
        gaps.append("no dataset is behind it")
    if not evidence.card.get("run"):
        gaps.append("the bundle does not hold its run's settings")
    if not evidence.version.run_id:
        gaps.append("no MLflow run made it")
    if gaps:
        return failed("; ".join(sorted(set(gaps))), wanted, "`lapactl models lineage` shows where the chain breaks.")
    inputs = f"{len({origin.digest for origin in origins}) - 1} inputs, {len(datasets)} of them datasets"
    return passed(f"{inputs}; {_code_behind(origins)}", wanted)


def _code_behind(origins: Sequence[Origin]) -> str:
    """The commits and images that trained it, as far as they were recorded; older runs did not."""
    tags = [origin.version.tags for origin in origins if origin.version is not None]
    found = {
        what: sorted({t[tag] for t in tags if tag in t}) for what, tag in (("commit", COMMIT_TAG), ("image", IMAGE_TAG))
    }
    known = [f"{what} {', '.join(values)}" for what, values in found.items() if values]
    return f"trained by {', '.join(known)}" if known else "the code that trained it was not recorded"


def intact_files(evidence: Evidence) -> Verdict:
    wanted = f"digest {evidence.version.digest[:12]}…, every file as its manifest says"
    if evidence.digest != evidence.version.digest:
        other = f"another bundle lies at {evidence.version.url}: digest {evidence.digest[:12]}…"
        return failed(other, wanted, "Export this policy to a folder of its own: `lapactl export`.")
    return passed("every file is as its manifest says", wanted)


def loads(gate: settings.LoadsGate, evidence: Evidence) -> Verdict:
    wanted = "loads in a fresh process and answers"
    rehearsal = evidence.rehearsal(gate.python, CALLS, gate.timeout_seconds)
    if rehearsal["digest"] != evidence.version.digest:
        return failed(f"it loaded another bundle, {rehearsal['digest'][:12]}…", wanted, "Export it again.")
    shape = f"{rehearsal['horizon']} actions of {rehearsal['action_dims']} numbers"
    # The serving environment's own version of this program may be an older one, that did not replay.
    replayed = rehearsal.get("replayed", 0)
    answers = f"answers {replayed} recorded observations as at export" if replayed else "carries nothing to replay"
    loaded = f"loaded in {rehearsal['load_seconds']:.1f} s on {rehearsal['device']}"
    return passed(f"{loaded}, gives {shape}, {answers}", wanted)


def latency(gate: settings.LatencyGate, evidence: Evidence) -> Verdict:
    wanted = f"p99 at most {gate.max_milliseconds:g} ms"
    rehearsal = evidence.rehearsal(gate.python, gate.calls, settings.LoadsGate().timeout_seconds)
    p50, p99 = rehearsal["p50_milliseconds"], rehearsal["p99_milliseconds"]
    found = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms over {rehearsal['calls']} calls on {rehearsal['device']}"
    if p99 > gate.max_milliseconds:
        return failed(found, wanted, "Promote from a machine like the serving one, or choose a smaller backbone.")
    return passed(found, wanted)


def licence(gate: settings.LicenceGate, evidence: Evidence) -> Verdict:
    wanted = f"only {', '.join(gate.allowed)}"
    datasets = {origin.digest: origin.dataset for origin in evidence.origin.walk() if origin.dataset is not None}
    counts: Counter[str] = Counter()
    for info in datasets.values():
        counts.update(info.licences)
    # The bundle knows the licences of datasets that are out of reach now.
    counts |= Counter(evidence.card.get("licences", {}))
    found = ", ".join(f"{name} ({episodes} episodes)" for name, episodes in sorted(counts.items()))
    if not counts:
        return failed("no licence is known", wanted, "Ingest the sources with source.licence set.")
    if foreign := sorted(set(counts) - set(gate.allowed)):
        allow = f"Train without {', '.join(foreign)}, ingest with source.licence set, or allow it in the gates file."
        return failed(found, wanted, allow)
    return passed(found, wanted)


def approval(gate: settings.ApprovalGate, evidence: Evidence) -> Verdict:
    wanted = f"{gate.at_least} other than {evidence.who}"
    others = [given for given in evidence.approvals if given.who != evidence.who]
    found = "; ".join(f"{given.who}: {given.reason}" for given in evidence.approvals) or "nobody has approved"
    if len(others) < gate.at_least:
        return failed(found, wanted, "A colleague approves with `lapactl promote … --approve NAME --reason WHY`.")
    return passed(found, wanted)


def metric(version: ModelVersion, name: str) -> float | None:
    """A number that the version was registered with."""
    text = version.tags.get(METRIC_TAG + name.replace("/", "."))
    return None if text is None else float(text)


def _latent_action_model(evidence: Evidence) -> ModelVersion | Verdict:
    """The one behind the policy; a verdict where there is none."""
    origins = list(evidence.origin.walk())
    versions = {o.version.name: o.version for o in origins if o.version is not None}
    if LAQ_MODEL in versions:
        return versions[LAQ_MODEL]
    if any(o.role == "laq" for o in origins) and INVERSE_DYNAMICS_MODEL not in versions:
        return failed("its latent-action model is not registered", "", "Run stage laq with tracking on.")
    if any(o.gap and o.role not in DATASET_ROLES for o in origins):
        return failed("the lineage is broken", "", "`lapactl models lineage` shows where.")
    return skipped("no latent-action model is behind it", "")


def _episodes_needed(difference: float, spread: float, z: float, margin: float) -> int | None:
    """How many episodes put the lower end at -margin, were the difference what it is now."""
    room = difference + margin
    return None if room <= 0 else round((z * spread / room) ** 2) + 1


def _of(benchmark: str | None) -> str:
    return "" if benchmark is None else f" of benchmark {benchmark}"
