"""From the results of all arms to the table: rates, pairs, shares, health of codes, targets met and missed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from lapa.bench.collect import ArmResult
from lapa.bench.jobs import Episode
from lapa.bench.methods import METHODS
from lapa.bench.results import (
    EVERYTHING,
    UNSEEN,
    ArmRecord,
    BenchTable,
    Cell,
    Codes,
    Comparison,
    Failure,
    Gain,
    KindCell,
    Provenance,
    SeedRate,
    StageTime,
)
from lapa.bench.settings import SETTINGS
from lapa.bench.study import Study
from lapa.bench.targets import targets_of
from lapa.bench.variations import variations_of
from lapa.config.stages import STAGES
from lapa.config.tabletop import SPLITS
from lapa.envs.statistics import compare_paired, gain_share, wilson_interval
from lapa.stages.plan import run_file

BASE, CEILING, OURS = "scratch", "action-vla", "lapa"
REFERENCES = (OURS, BASE)
"""Every method is compared with these, episode by episode."""

BySeed = Mapping[int, Sequence[Episode]]
"""Episodes of one method in one setting, by study seed."""


def build_table(
    study: Study, results: Sequence[ArmResult], *, failures: Mapping[str, str], provenance: Provenance
) -> BenchTable:
    """The table of a study; `failures` are the words of arms that failed, by their run's name."""
    played = _played(results)
    cells = tuple(_cells(played))
    comparisons = tuple(_comparisons(played))
    gains = tuple(_gains(played))
    return BenchTable(
        study="tabletop",
        size=study.size,
        is_validation=study.is_validation,
        settings={name: SETTINGS[name].says for name in study.settings},
        methods={name: METHODS[name].says for name in study.methods if name in {r.arm.method for r in results}},
        seeds=study.seeds,
        splits=tuple(split for split in SPLITS if any(cell.split == split for cell in cells)),
        cells=cells,
        kinds=tuple(_kinds(played)),
        comparisons=comparisons,
        gains=gains,
        codes=tuple(_codes(results)),
        variations=tuple(variations_of(results)),
        targets=tuple(targets_of(cells, comparisons, gains)),
        failures=tuple(_failures(results, failures)),
        arms=tuple(_arms(results)),
        times=tuple(_times(results)),
        provenance=provenance,
    )


def _played(results: Iterable[ArmResult]) -> dict[tuple[str, str], dict[int, tuple[Episode, ...]]]:
    """Episodes by setting and method, then by seed; what has none is absent."""
    played: dict[tuple[str, str], dict[int, tuple[Episode, ...]]] = {}
    for result in results:
        if result.episodes:
            played.setdefault((result.arm.setting, result.arm.method), {})[result.arm.seed] = result.episodes
    return played


def _cells(played: Mapping[tuple[str, str], BySeed]) -> Iterator[Cell]:
    for (setting, method), seeds in played.items():
        for split in (EVERYTHING, UNSEEN, *SPLITS):
            rates = []
            for seed, episodes in seeds.items():
                chosen = _of_split(episodes, split)
                if chosen:
                    rates.append(SeedRate(seed=seed, episodes=len(chosen), successes=sum(e.success for e in chosen)))
            if rates:
                yield Cell(setting=setting, method=method, split=split, seeds=tuple(rates), **_pooled(rates))


def _pooled(rates: Sequence[SeedRate]) -> dict[str, float]:
    episodes, successes = sum(rate.episodes for rate in rates), sum(rate.successes for rate in rates)
    return {"episodes": episodes, "successes": successes, **_limits(successes, episodes)}


def _limits(successes: int, episodes: int) -> dict[str, float]:
    interval = wilson_interval(successes, episodes)
    return {"low": interval.low, "high": interval.high}


def _kinds(played: Mapping[tuple[str, str], BySeed]) -> Iterator[KindCell]:
    for (setting, method), seeds in played.items():
        episodes = [episode for part in seeds.values() for episode in part]
        for kind in dict.fromkeys(episode.kind for episode in episodes):
            chosen = [episode.success for episode in episodes if episode.kind == kind]
            yield KindCell(
                setting=setting,
                method=method,
                kind=kind,
                is_demonstrated=kind in SETTINGS[setting].demonstrated,
                episodes=len(chosen),
                successes=sum(chosen),
                **_limits(sum(chosen), len(chosen)),
            )


def _comparisons(played: Mapping[tuple[str, str], BySeed]) -> Iterator[Comparison]:
    for (setting, method), seeds in played.items():
        for against in REFERENCES:
            is_said = (method, against) == (BASE, OURS)  # the same pair the other way round
            if method == against or is_said or (setting, against) not in played:
                continue
            pairs = list(_paired([seeds, played[setting, against]], EVERYTHING))
            if not pairs:
                continue
            first, second = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
            found = compare_paired(first, second)
            yield Comparison(
                setting=setting,
                method=method,
                against=against,
                wins=found.wins,
                ties=found.ties,
                losses=found.losses,
                difference=found.difference,
                standard_error=found.standard_error,
                p_value=found.p_value,
            )


def _gains(played: Mapping[tuple[str, str], BySeed]) -> Iterator[Gain]:
    for (setting, method), seeds in played.items():
        others = [played.get((setting, name)) for name in (BASE, CEILING)]
        if method in (BASE, CEILING) or METHODS[method].role != "method" or None in others:
            continue
        base, ceiling = (other for other in others if other is not None)
        for split in (EVERYTHING, *SPLITS):
            pairs = list(_paired([base, seeds, ceiling], split))
            found = gain_share(*zip(*pairs, strict=True)) if pairs else None
            if found is not None:
                low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
                yield Gain(setting=setting, method=method, split=split, share=found.share, low=low, high=high)


def _paired(methods: Sequence[BySeed], split: str) -> Iterator[list[np.ndarray]]:
    """For each seed that all methods have: their outcomes, in the order of the initial states that all of them met."""
    for seed in sorted(set.intersection(*(set(seeds) for seeds in methods))):
        outcomes = [{e.seed: e.success for e in _of_split(seeds[seed], split)} for seeds in methods]
        states = sorted(set.intersection(*(set(found) for found in outcomes)))
        if states:
            yield [np.array([found[state] for state in states]) for found in outcomes]


def _of_split(episodes: Sequence[Episode], split: str) -> list[Episode]:
    wanted = {EVERYTHING: set(SPLITS), UNSEEN: set(SPLITS) - {"seen"}}.get(split, {split})
    return [episode for episode in episodes if episode.split in wanted]


def _codes(results: Sequence[ArmResult]) -> Iterator[Codes]:
    """One record per latent-action model: settings with the same videos share it."""
    floors = {
        _floor_key(result): result.stages["laq"].metrics.get("relative_error")
        for result in results
        if METHODS[result.arm.method].role == "floor" and "laq" in result.stages
    }
    seen: set[str] = set()
    for result in results:
        laq = result.stages.get("laq")
        if laq is None or laq.folder in seen or METHODS[result.arm.method].role == "floor":
            continue
        seen.add(laq.folder)
        numbers = {
            name: laq.metrics.get(name) for name in ("perplexity", "joint_perplexity", "dead_share", "relative_error")
        }
        has_codes = numbers["perplexity"] is not None
        yield Codes(
            videos=result.arm.setting,
            method=result.arm.method,
            seed=result.arm.seed,
            floor=floors.get(_floor_key(result)) if has_codes else None,
            r2=result.r2,
            **numbers,
        )


def _floor_key(result: ArmResult) -> tuple[str, float, int]:
    """Errors of the same seed's models, over the same videos and window, can be laid side by side."""
    arm = result.arm
    return result.stages["ingest"].outputs["videos"].digest, arm.run.laq.window_seconds, arm.seed


def _failures(results: Sequence[ArmResult], failures: Mapping[str, str]) -> Iterator[Failure]:
    for result in results:
        arm = result.arm
        if arm.run.name in failures:
            yield Failure(setting=arm.setting, method=arm.method, seed=arm.seed, words=failures[arm.run.name])


def _arms(results: Sequence[ArmResult]) -> Iterator[ArmRecord]:
    """Places inside the work folder, which another reader of the table has elsewhere."""
    for result in results:
        arm = result.arm
        yield ArmRecord(
            setting=arm.setting,
            method=arm.method,
            seed=arm.seed,
            run_file="/".join(run_file(arm.run).parts[-2:]),
            folders={stage: PurePosixPath(made.folder).name for stage, made in result.stages.items()},
        )


def _times(results: Sequence[ArmResult]) -> Iterator[StageTime]:
    for stage in STAGES:
        costs = {result.stages[stage].folder: result.costs[stage] for result in results if stage in result.costs}
        if costs:
            yield StageTime(
                stage=stage,
                made=len(costs),
                cpu_seconds=sum(cost.cpu_seconds for cost in costs.values()),
                wall_seconds=sum(cost.wall_seconds for cost in costs.values()),
            )
