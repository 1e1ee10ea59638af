"""What the evaluation says about a run: against its baselines, on held-out actions, and how hard the tasks are."""

from collections.abc import Iterator

from lapa.envs.statistics import PairedComparison
from lapa.report.changes import Change, longer
from lapa.report.findings import Finding
from lapa.report.health import CodeHealth
from lapa.report.outcomes import compare_arms
from lapa.report.summary import ArmSummary, RunSummary

SIGNIFICANT = 0.05
ENOUGH_ORACLE = 0.95
HARDLY_ANY = 0.1
"""Success below this is not called one where no baseline shows how hard the tasks are."""


def success(summary: RunSummary, health: CodeHealth) -> Iterator[Finding]:
    """Against the baseline without pretraining where there is one, else against the best."""
    rate = _rate(summary.main)
    if rate is None:
        return
    rivals = [arm for arm in summary.arms[1:] if _rate(arm) is not None]
    if not rivals:
        yield _alone(rate)
        return
    rival = next((arm for arm in rivals if arm.config.pretrain is None), max(rivals, key=lambda arm: _rate(arm) or 0))
    yield _against(summary, health, rival, rate, _rate(rival) or 0.0)


def _alone(rate: float) -> Finding:
    if rate >= HARDLY_ANY:
        return Finding(level="fine", topic="Success", section="success",
                       headline=f"The policy solves {rate:.0%} of the episodes. There is no baseline.")  # fmt: skip
    return Finding(
        level="doubt", topic="Success", section="success",
        headline=f"The policy solves only {rate:.0%} of the episodes. There is no baseline.",
        why="A policy is no better than what it was made from: look first at what else is in doubt here.",
    )  # fmt: skip


def _against(summary: RunSummary, health: CodeHealth, rival: ArmSummary, mine: float, theirs: float) -> Finding:
    pairing = compare_arms(summary.main, rival)
    both = f"{mine:.0%} of the episodes are solved, {theirs:.0%} by {rival.name}"
    is_scratch = rival.config.pretrain is None
    comparison = pairing.comparison
    if comparison is None:
        return Finding(level="unknown", topic="Success", section="success", headline=f"{both[0].upper()}{both[1:]}.",
                       why=f"The two cannot be compared episode by episode: {pairing.why_not}.")  # fmt: skip
    why = comparison_words(comparison)
    if comparison.p_value < SIGNIFICANT and comparison.difference > 0:
        words = "Pretraining on latent actions pays" if is_scratch else f"The policy beats {rival.name}"
        return Finding(level="fine", topic="Success", section="success", headline=f"{words}: {both}.", why=why)
    if comparison.p_value < SIGNIFICANT:
        words = "Pretraining on latent actions does harm" if is_scratch else f"The policy is worse than {rival.name}"
        return Finding(level="wrong", topic="Success", section="success", headline=f"{words}: {both}.", why=why,
                       changes=_learn_more(summary, health))  # fmt: skip
    if mine == theirs == 0:
        return Finding(
            level="doubt", topic="Success", section="success", changes=_learn_more(summary, health),
            headline=f"Neither the policy nor {rival.name} solves a single episode of {len(summary.main.outcomes)}.",
            why="Nothing can be said about latent actions before a policy solves some of its tasks.",
        )  # fmt: skip
    return Finding(level="doubt", topic="Success", section="success", changes=_more_episodes(summary, health), why=why,
                   headline=f"No difference can be told: {both}.")  # fmt: skip


def comparison_words(comparison: PairedComparison) -> str:
    """Wins and losses as a sentence."""
    episodes = comparison.wins + comparison.losses + comparison.ties
    return (
        f"On the same {episodes} initial states {comparison.wins} were won, {comparison.losses} lost and "
        f"{comparison.ties} ended alike (McNemar p {p_words(comparison.p_value)})."
    )


def p_words(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"


def _more_episodes(summary: RunSummary, health: CodeHealth) -> tuple[Change, ...]:
    episodes = len(summary.main.outcomes)
    more = Change(
        sets=(f"evaluate.simulator.episodes={4 * episodes}",), now=str(episodes),
        why="Four times the episodes halve the interval.",
    )  # fmt: skip
    return (more, *(change.model_copy(update={"is_alternative": True}) for change in _learn_more(summary, health)))


def _learn_more(summary: RunSummary, health: CodeHealth) -> tuple[Change, ...]:
    """First what made the codebook collapse, where it had to be repaired: longer training would build on it."""
    run = summary.config
    causes = tuple(change for change in health.changes if not change.is_alternative) if health.repairs else ()
    why = "Longer training, with the same data."
    stages = (stage for stage in ("pretrain", "finetune") if getattr(run, stage))
    return (*causes, *(longer(run, stage, why, factor=4) for stage in stages))


def held_out(summary: RunSummary) -> Iterator[Finding]:
    stage = summary.main.stage("evaluate")
    ratio = stage.metrics.get("held_out/ratio") if stage else None
    if ratio is None:
        return
    headline = f"On held-out robot episodes its actions have {ratio:.0%} of the error of always answering the mean."
    if round(ratio, 2) < 1:
        yield Finding(level="fine", topic="Actions", headline=headline, section="success")
    else:
        yield Finding(
            level="doubt", topic="Actions", headline=headline, section="success",
            why="It knows no more than a constant answer. More robot episodes help most; then longer training.",
            changes=(longer(summary.config, "finetune", "Few steps see each episode only a few times."),),
        )  # fmt: skip


def oracle(summary: RunSummary) -> Iterator[Finding]:
    stage = summary.main.stage("evaluate")
    rate = stage.metrics.get("oracle_success_rate") if stage else None
    if rate is not None and rate < ENOUGH_ORACLE:
        yield Finding(
            level="doubt", topic="Benchmark", section="success",
            headline=f"Even the scripted oracle solves only {rate:.0%} of the episodes.",
            why="The tasks, or the limit evaluate.simulator.max_steps, are too hard to measure a policy by.",
        )  # fmt: skip


def _rate(arm: ArmSummary) -> float | None:
    stage = arm.stage("evaluate")
    return stage.metrics.get("success_rate") if stage else None
