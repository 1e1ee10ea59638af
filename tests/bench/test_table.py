"""From episodes to the table, on outcomes whose numbers are known."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lapa.bench.ablation_grid import ablation_grid
from lapa.bench.answers import answer_grid, caution, unfinished, verdict
from lapa.bench.collect import ArmResult
from lapa.bench.costs import StageCost
from lapa.bench.grids import distractor_grid
from lapa.bench.jobs import Arm, Episode
from lapa.bench.markdown import as_markdown
from lapa.bench.page import as_page
from lapa.bench.provenance import provenance_of
from lapa.bench.results import UNSEEN, BenchTable, Provenance
from lapa.bench.study import Study, arms_of
from lapa.bench.table import build_table
from lapa.config.tabletop import ALL_KINDS, SPLITS
from lapa.envs.statistics import wilson_interval
from lapa.stages.results import Artifact, StageResult
from lapa.tracking.code import COMMIT_TAG, commit
from lapa.tracking.machine import machine_words

STUDY = Study(
    size="tiny",
    seeds=2,
    settings=("in-domain", "cross-task"),
    methods=("scratch", "vpt", "lapa", "action-vla", "floor"),
)
PROVENANCE = Provenance(
    command="lapactl bench tabletop --size tiny", commit="abc", hardware="two cores", versions={"lapa": "1"},
    finished="2026-01-01T00:00:00+00:00", wall_seconds=60, cpu_seconds=100,
)  # fmt: skip
RATES = {"scratch": 1, "vpt": 4, "lapa": 7, "action-vla": 9}
"""Of every ten episodes, the first so many succeed."""


def episodes(successes: int, seed: int) -> tuple[Episode, ...]:
    return tuple(
        Episode(
            seed=1000 * seed + number,
            kind=ALL_KINDS[number % 6],
            split=SPLITS[number % 4],
            success=number % 10 < successes,
        )
        for number in range(240)
    )


def stage(arm: Arm, name: str, **metrics: float) -> StageResult:
    shared = arm.method if name == "laq" else f"{arm.setting}-{arm.method}"
    return StageResult(
        stage=name, name=arm.run.name, fingerprint="f", folder=f"work/{name}-{shared}-{arm.seed}", inputs={},
        outputs={"videos": Artifact(url="v", digest="v")}, metrics=metrics, started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
    )  # fmt: skip


def result(arm: Arm) -> ArmResult:
    codes = {"relative_error": 0.6} if arm.method == "floor" else {"relative_error": 0.4, "perplexity": 6.0}
    stages = {"ingest": stage(arm, "ingest")}
    if "laq" in arm.stages:
        stages["laq"] = stage(arm, "laq", **codes)
    stages.setdefault(arm.stages[-1], stage(arm, arm.stages[-1]))
    return ArmResult(
        arm=arm,
        stages=stages,
        costs={name: StageCost(cpu_seconds=10, wall_seconds=20) for name in stages},
        episodes=episodes(RATES[arm.method], arm.seed) if arm.method in RATES else (),
        r2=0.8 if arm.method == "lapa" else None,
    )


Build = Callable[..., BenchTable]


@pytest.fixture(scope="module")
def build() -> Build:
    @functools.cache  # a table never changes, and its bootstraps take a second
    def made(**failures: str) -> BenchTable:
        results = [result(arm) for arm in arms_of(STUDY) if arm.run.name not in failures]
        absent = [ArmResult(arm=arm, stages={}, costs={}) for arm in arms_of(STUDY) if arm.run.name in failures]
        return build_table(STUDY, results + absent, failures=failures, provenance=PROVENANCE)

    return made


def test_a_cell_pools_the_episodes_of_all_seeds_and_keeps_each_seed(build: Build):
    cell = build().cell("in-domain", "lapa")
    assert (cell.successes, cell.episodes) == (336, 480)
    interval = wilson_interval(336, 480)
    assert (cell.low, cell.high) == (interval.low, interval.high)
    assert [(rate.seed, rate.successes, rate.episodes) for rate in cell.seeds] == [(0, 168, 240), (1, 168, 240)]


def test_splits_add_up(build: Build):
    table = build()
    cells = {split: table.cell("in-domain", "vpt", split) for split in ("all", UNSEEN, *SPLITS)}
    assert table.splits == SPLITS
    assert cells["seen"].episodes + cells[UNSEEN].episodes == cells["all"].episodes
    assert sum(cells[split].successes for split in SPLITS) == cells["all"].successes


def test_kinds_without_demonstrations_are_called_unseen(build: Build):
    table = build()
    shown = {cell.kind: cell.is_demonstrated for cell in table.kinds if cell.setting == "cross-task"}
    assert shown == {kind: kind == "push-to" for kind in ALL_KINDS}
    assert all(cell.is_demonstrated for cell in table.kinds if cell.setting == "in-domain")
    assert "reach (unseen kind)" in as_markdown(table)


def test_methods_are_compared_episode_by_episode(build: Build):
    found = next(
        item
        for item in build().comparisons
        if (item.setting, item.method, item.against) == ("in-domain", "lapa", "scratch")
    )
    assert (found.wins, found.ties, found.losses) == (288, 192, 0)
    assert found.difference == pytest.approx(0.6)
    assert found.p_value < 1e-10


def test_the_share_of_the_ceilings_gain_is_three_quarters(build: Build):
    gain = next(
        item for item in build().gains if (item.setting, item.method, item.split) == ("in-domain", "lapa", "all")
    )
    assert gain.share == pytest.approx((7 - 1) / (9 - 1))
    assert gain.low < gain.share < gain.high


def test_targets_are_met_or_missed_by_the_numbers(build: Build):
    targets = {(item.says, item.setting, item.split): item.is_met for item in build().targets}
    assert targets["lapa's interval lies above scratch's", "in-domain", "all"]
    assert targets["lapa is above vpt", "cross-task", "all"]
    assert not targets["lapa reaches at least 90% of action-vla's gain over scratch", "in-domain", "all"]


def test_a_latent_action_model_that_settings_share_is_listed_once_beside_its_floor(build: Build):
    lapa = [item for item in build().codes if item.method == "lapa"]
    assert [(item.videos, item.seed, item.floor, item.r2) for item in lapa] == [
        ("in-domain", 0, 0.6, 0.8),
        ("in-domain", 1, 0.6, 0.8),
    ]
    assert not [item for item in build().codes if item.method == "floor"]


def test_shared_stages_are_paid_once(build: Build):
    times = {item.stage: item for item in build().times}
    assert times["laq"].made == 6  # vpt's stand-ins share a folder too; three methods, two seeds
    assert times["laq"].cpu_seconds == 60


ABLATED = Study(size="tiny", seeds=2, settings=("in-domain",), methods=("lapa", "floor", "window-long", "latent-loss"))


@pytest.fixture(scope="module")
def ablated() -> BenchTable:
    """Half of the long window's episodes succeed; `latent-loss` has the latent-action model of `lapa`."""
    results = []
    for arm in arms_of(ABLATED):
        made = result(arm)
        if arm.method == "latent-loss":
            shared = next(item for item in results if (item.arm.method, item.arm.seed) == ("lapa", arm.seed))
            made = replace(made, stages={**made.stages, "laq": shared.stages["laq"]})
        if arm.method == "window-long":
            made = replace(made, episodes=episodes(5, arm.seed), r2=0.7)
        results.append(made)
    return build_table(ABLATED, results, failures={}, provenance=PROVENANCE)


def test_an_ablation_stands_beside_lapa_with_its_setting_its_pairs_and_its_codes(ablated: BenchTable):
    grid = ablation_grid(ablated)
    rows = {row[0]: row[1:] for row in grid.rows}
    assert list(rows) == ["lapa", "window-long", "latent-loss"]
    assert rows["lapa"][0] == "70.0 [65.8, 73.9]"
    assert rows["window-long"] == [
        "50.0 [45.5, 54.5]", "-20.0 ± 1.8", "0/384/96", "< 0.0001", "0.70", "0.40", "6.00", "–",
        "laq.window_seconds=0.6, not 0.3",
    ]  # fmt: skip
    assert rows["latent-loss"][4:-1] == rows["lapa"][4:-1] == ["0.80", "0.40", "6.00", "–"], "one latent-action model"
    assert "withheld from the decoder the error is 0.60" in grid.note
    for text in (as_markdown(ablated), as_page(ablated)):
        assert "Ablations" in text and "0/384/96" in text


def test_a_floor_stands_beside_errors_over_its_own_window_alone(ablated: BenchTable):
    floors = {item.method: item.floor for item in ablated.codes if item.seed == 0}
    assert floors == {"lapa": 0.6, "window-long": None}


def test_a_study_without_ablations_shows_none(build: Build):
    assert not ablation_grid(build()).rows
    assert "Ablations" not in as_markdown(build()) + as_page(build())


def test_what_distractors_cost_is_shown_of_policies_and_of_codes():
    methods = ("scratch", "lapa", "lapa-masked", "floor")
    study = Study(size="tiny", seeds=1, settings=("in-domain", "distractors"), methods=methods)
    results = []
    for arm in arms_of(study):
        made = result(arm)
        if arm.setting == "distractors" and "laq" in made.stages:
            laq = made.stages["laq"].model_copy(update={"folder": f"work/laq-distractors-{arm.method}"})
            made = replace(made, stages={**made.stages, "laq": laq}, r2=0.5 if arm.method == "lapa" else None)
        if (arm.setting, arm.method) == ("distractors", "lapa"):
            made = replace(made, episodes=episodes(4, arm.seed))
        results.append(made)
    table = build_table(study, results, failures={}, provenance=PROVENANCE)
    rows = {row[0]: row[1:] for row in distractor_grid(table).rows}
    assert list(rows) == ["scratch", "lapa", "lapa-masked"]
    assert rows["lapa"][2:] == ["-30.0", "0.80", "0.50", "0.40", "0.40"]
    assert rows["scratch"][2:] == ["+0.0", *["–"] * 4]
    assert rows["lapa-masked"] == [*["–"] * 6, "0.40"], "not tried in-domain, and no policy yet"
    assert "it is 0.60 in-domain and 0.60 here" in as_page(table)


def test_a_failed_arm_is_named_and_the_others_are_there(build: Build):
    table = build(**{"in-domain.vpt.1": "stage laq failed <b>badly</b>. Its log is work/logs/x.log"})
    assert [(item.method, item.seed) for item in table.failures] == [("vpt", 1)]
    assert table.cell("in-domain", "vpt").episodes == 240
    assert table.cell("in-domain", "lapa").episodes == 480
    assert "work/logs/x.log" in as_markdown(table)
    assert "&lt;b&gt;badly" in as_page(table)


def test_the_json_gives_the_table_again(build: Build):
    table = build()
    assert BenchTable.model_validate_json(table.model_dump_json()) == table
    assert json.loads(table.model_dump_json())["schema_version"] == 1


def test_the_markdown_says_how_to_do_it_again_and_what_each_method_reached(build: Build):
    text = as_markdown(build())
    assert "lapactl bench tabletop --size tiny" in text
    assert "| lapa | 70 / 70 | 70.0 [65.8, 73.9] |" in text
    assert "**missed**" in text


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(build: Build):
    tags = Tags()
    tags.feed(as_page(build()))
    assert tags.open == []
    assert not [name for name, attributes in tags.seen if name in ("script", "link", "img") or "src" in attributes]
    assert len([1 for name, _ in tags.seen if name == "figure"]) == 2


def test_the_picture_has_a_filled_mark_for_seen_and_an_open_one_for_unseen_tasks_of_every_method(build: Build):
    page = as_page(build())
    figure = page[page.index("<figure>") : page.index("</figure>")]
    assert figure.count("<circle") == figure.count('fill="#fff"') == len(RATES)
    for method in RATES:
        assert f">{method}</text>" in figure


def test_lapa_against_each_opponent_comes_first_seen_from_its_own_side(build: Build):
    grid = answer_grid(build())
    rows = {(setting, other): row for setting, other, *row in grid.rows}
    assert [other for setting, other in rows if setting == "in-domain"] == ["scratch", "action-vla", "vpt"]
    assert rows["in-domain", "scratch"][1:3] == ["70.0", "10.0"]
    assert rows["in-domain", "vpt"] == ["above", "70.0", "40.0", "+30.0 ± 2.1", "144/336/0", "< 0.0001"]
    assert rows["in-domain", "action-vla"][0] == "below"
    assert rows["in-domain", "action-vla"][-2] == "0/384/96"
    assert "several seeds" in grid.note
    for text in (as_markdown(build()), as_page(build())):
        assert text.index("144/336/0") < text.index("vpt against scratch")


def test_policies_that_differ_by_chance_are_not_told_apart(build: Build):
    found = build().comparisons[0].model_copy(update={"difference": 0.01, "p_value": 0.4})
    assert verdict(found) == "not told apart"


def test_no_pair_is_listed_twice(build: Build):
    pairs = [(item.setting, frozenset((item.method, item.against))) for item in build().comparisons]
    assert len(pairs) == len(set(pairs))


def test_a_table_made_before_its_study_ended_says_what_it_lacks(build: Build):
    results = [result(arm) for arm in arms_of(STUDY) if arm.run.name != "cross-task.lapa.1"]
    absent = [ArmResult(arm=arm, stages={}, costs={}) for arm in arms_of(STUDY) if arm.run.name == "cross-task.lapa.1"]
    table = build_table(STUDY, results + absent, failures={}, provenance=PROVENANCE)
    said = "1 of 18 arms are not made yet: cross-task seed 1 (1)."
    assert unfinished(table) == said
    assert said in as_markdown(table)
    assert said in as_page(table)
    assert not unfinished(build())


def test_a_table_of_the_smallest_size_warns_of_reading_who_wins_off_it(build: Build):
    tiny = build()
    assert "means nothing" in caution(tiny)
    for text in (as_markdown(tiny), as_page(tiny)):
        assert 0 <= text.index(caution(tiny)) < text.index("144/336/0")
    assert not caution(tiny.model_copy(update={"size": "small"}))


def test_only_methods_that_these_settings_try_are_explained(build: Build):
    assert list(build().methods) == list(STUDY.methods)
    study = Study(size="tiny", seeds=1, settings=("cross-task",), methods=("scratch", "lapa-masked"))
    made = build_table(study, [result(arm) for arm in arms_of(study)], failures={}, provenance=PROVENANCE)
    assert list(made.methods) == ["scratch"]


def test_arms_are_found_inside_the_work_folder_wherever_it_lies(build: Build):
    arm = next(item for item in build().arms if (item.setting, item.method, item.seed) == ("in-domain", "lapa", 0))
    assert (arm.run_file, arm.folders["laq"]) == ("runs/in-domain.lapa.0.yaml", "laq-lapa-0")


def test_machine_and_commit_are_those_of_the_stages_and_not_of_who_writes_the_table():
    arm = arms_of(STUDY)[0]
    elsewhere = stage(arm, "finetune").model_copy(update={"hardware": "a GPU", "code": {COMMIT_TAG: "abc"}})
    made = provenance_of([ArmResult(arm=arm, stages={"finetune": elsewhere}, costs={})], command="")
    assert (made.hardware, made.commit) == ("a GPU", "abc")
    here = provenance_of([ArmResult(arm=arm, stages={"finetune": stage(arm, "finetune")}, costs={})], command="")
    assert (here.hardware, here.commit) == (machine_words(), commit())


def test_a_study_without_any_result_is_still_a_table():
    table = build_table(STUDY, [], failures={}, provenance=PROVENANCE)
    assert "# Tabletop study" in as_markdown(table)
    assert "<h1>" in as_page(table)
