"""The study as data: what arms share, what tells them apart, and what they must never see."""

from ast import literal_eval
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from lapa.bench.ablations import ABLATIONS, WHERE
from lapa.bench.jobs import Arm
from lapa.bench.methods import ABLATED, METHODS, STUDIED
from lapa.bench.sizes import SIZES
from lapa.bench.study import Study, arms_of
from lapa.config.load import dump_run, load_run
from lapa.config.stages import StageName
from lapa.config.tabletop import ALL_KINDS, SPLITS
from lapa.errors import ConfigError
from lapa.stages.plan import static_key

ENCODER = "laq.model.target.encoder"
SAME_VIDEOS = ("in-domain", "cross-task", "cross-environment")


@pytest.fixture(scope="module")
def arms() -> dict[tuple[str, str, int], Arm]:
    return {(arm.setting, arm.method, arm.seed): arm for arm in arms_of(Study(size="small", seeds=2))}


def keys(
    arms: dict[tuple[str, str, int], Arm], method: str, stage: StageName, settings=SAME_VIDEOS, seed=0
) -> set[str]:
    return {static_key(arms[setting, method, seed].run, stage) for setting in settings}


@pytest.mark.parametrize("method", ["lapa", "lapa-paper", "lapa-supervised", "shuffled"])
@pytest.mark.parametrize("stage", ["laq", "label", "pretrain"])
def test_what_is_learned_from_the_same_videos_is_learned_once(arms, method: str, stage: StageName):
    assert len(keys(arms, method, stage)) == 1
    assert keys(arms, method, stage, ["distractors"]).isdisjoint(keys(arms, method, stage))
    assert keys(arms, method, stage, seed=1).isdisjoint(keys(arms, method, stage))


def test_true_actions_are_learned_once_and_an_inverse_dynamics_model_for_each_setting(arms):
    assert len(keys(arms, "action-vla", "pretrain")) == 1
    assert len(keys(arms, "vpt", "laq")) == len(keys(arms, "vpt", "pretrain")) == 3


def test_shuffled_codes_are_the_codes_of_lapa(arms):
    assert keys(arms, "shuffled", "label") == keys(arms, "lapa", "label")
    assert keys(arms, "shuffled", "pretrain").isdisjoint(keys(arms, "lapa", "pretrain"))


def test_all_methods_of_a_setting_and_seed_are_finetuned_on_the_same_data_and_tested_in_the_same_states(arms):
    for setting in (*SAME_VIDEOS, "distractors"):
        runs = [arm.run for (name, _, seed), arm in arms.items() if name == setting and seed == 1 and arm.run.finetune]
        assert len({run.robot.model_dump_json() for run in runs}) == 1
        assert len({run.evaluate.model_dump_json() for run in runs}) == 1
        assert len({run.finetune.stream.model_dump_json() for run in runs}) == 1
        assert len({run.seed for run in runs}) == 1


def test_methods_share_backbone_batches_and_steps(arms):
    runs = [arm.run for (setting, _, seed), arm in arms.items() if setting == "in-domain" and seed == 0]
    pretrained = [run.pretrain for run in runs if run.pretrain]
    assert len({config.fit.model_dump_json() for config in pretrained}) == 1
    backbones = {config.backbone for config in pretrained}
    backbones |= {run.finetune.backbone for run in runs if run.finetune and run.finetune.backbone}
    assert len(backbones) == 1
    finetuned = [run.finetune.fit for run in runs if run.finetune and run.finetune.fit.steps]
    assert len({(fit.steps, fit.batch_size, fit.precision) for fit in finetuned}) == 1


def test_no_two_of_demonstrations_test_tables_and_validation_tables_meet():
    states: list[set[int]] = []
    for is_validation in (False, True):
        for arm in arms_of(Study(size="full", seeds=5, methods=("scratch",), is_validation=is_validation)):
            simulator = arm.run.evaluate.simulator
            states.append({*range(simulator.seed, simulator.seed + simulator.episodes)})
    by_seed = {min(found): found for found in states}  # settings of one seed begin in the same numbers
    assert len(by_seed) == 10
    assert all(first.isdisjoint(second) for first, second in combinations(by_seed.values(), 2))


def test_latent_actions_are_learned_without_the_robot(arms):
    for arm in arms.values():
        if arm.method not in ("vpt",):
            assert arm.run.laq.gate is None, "a gate probes the codes on demonstrations"
            assert arm.run.laq.labeller == "latent-action"


def test_each_setting_is_what_it_says(arms):
    def run(setting: str):
        return arms[setting, "lapa", 0].run

    for setting in SAME_VIDEOS:
        assert run(setting).videos == run("in-domain").videos
        assert set(run(setting).evaluate.simulator.tasks.kinds) == set(ALL_KINDS)
        assert run(setting).evaluate.simulator.tasks.splits == SPLITS
        assert run(setting).robot.source.tasks.splits == ("seen",)
    assert run("cross-task").robot.source.tasks.kinds == ("push-to",)
    assert run("cross-environment").robot.source.scene.world != run("cross-environment").videos.source.scene.world
    assert run("cross-environment").evaluate.simulator.scene == run("cross-environment").robot.source.scene
    assert run("distractors").videos.source.scene.distractors is not None
    assert run("distractors").evaluate.simulator.scene == run("distractors").videos.source.scene


def test_a_head_is_kept_where_actions_mean_the_same(arms):
    kept = {setting: arms[setting, "action-vla", 0].run.finetune.keep_head for setting in SAME_VIDEOS}
    assert kept == {"in-domain": True, "cross-task": True, "cross-environment": False}


@pytest.mark.parametrize("size", list(SIZES))
def test_every_arm_of_every_size_is_a_run_that_its_yaml_gives_again(size: str, tmp_path):
    for arm in arms_of(Study(size=size, seeds=1, methods=tuple(METHODS), overrides={ENCODER: "folder"})):
        path = tmp_path / "run.yaml"
        path.write_text(dump_run(arm.run))
        assert load_run(str(path)) == arm.run


@pytest.mark.parametrize("size", ["small", "full"])
def test_a_cell_holds_at_least_a_hundred_episodes(size: str):
    chosen = SIZES[size]
    assert chosen.episodes % (len(ALL_KINDS) * len(SPLITS)) == 0
    assert chosen.episodes * chosen.seeds / len(SPLITS) >= 100


IDM = {"laq.inverse_dynamics.fit.steps": 5}


def test_a_setting_on_the_command_line_reaches_every_method_that_knows_it():
    study = Study(size="tiny", seeds=1, overrides={"pretrain.backbone.width": 24, "finetune.fit.steps": 7, **IDM})
    for arm in arms_of(study):
        assert arm.run.laq.inverse_dynamics.fit.steps == 5
        if arm.method == "scratch":
            assert arm.run.finetune.backbone.width == 24
            assert arm.run.pretrain is None
        elif arm.method != "floor":
            assert arm.run.pretrain.backbone.width == 24
        if arm.method not in ("floor", "action-vla-zero"):
            assert arm.run.finetune.fit.steps == 7


def test_a_finetuning_rate_on_the_command_line_is_everybodys():
    study = Study(size="tiny", seeds=1, overrides={"finetune.fit.optimizer.learning_rate": 1e-3})
    rates = {arm.run.finetune.fit.optimizer.learning_rate for arm in arms_of(study) if arm.run.finetune}
    assert rates == {1e-3}


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (Study(seeds=1, size="huge"), "'huge' is not a size of the benchmark; valid: tiny"),
        (Study(seeds=1, settings=("indomain",)), "'indomain' is not a setting of the benchmark; valid: in-domain"),
        (Study(seeds=1, methods=("lappa",)), "'lappa' is not a method of the benchmark; valid: scratch"),
        (Study(seeds=1, methods=("lapa-masked",), settings=("in-domain",)), "lapa-masked: distractors"),
    ],
)
def test_names_that_do_not_exist_are_refused_with_those_that_do(study: Study, said: str):
    with pytest.raises(ConfigError, match=said):
        arms_of(study)


def test_every_method_says_what_it_learns_from():
    assert all(method.says for method in METHODS.values())


@pytest.fixture(scope="module")
def ablated() -> dict[str, Arm]:
    return {arm.method: arm for arm in arms_of(Study(size="small", seeds=1, settings=(WHERE,), methods=ABLATED))}


def leaves(settings: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of plain settings by its place, as `--set` names it."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from leaves(value, f"{place}.{key}" if place else key)
    else:
        yield place, settings


VARIED = [name for name, method in METHODS.items() if method.varies]


@pytest.mark.parametrize("name", VARIED)
def test_an_ablation_differs_from_lapa_in_the_one_setting_it_names(arms, ablated, name: str):
    method, ours = METHODS[name], arms["in-domain", "lapa", 0]
    found, base = (set(map(repr, leaves(arm.run.model_dump(mode="json")))) for arm in (ablated[name], ours))
    changed = {literal_eval(item)[0] for item in found ^ base} - {"name"}
    alarm = {"laq.health.on_collapse"}  # says whether a collapse stops the run, not how it trains
    choice = method.varies.removesuffix(".kind").removesuffix(".share")  # with another kind come its other settings
    assert method.varies in changed or choice in changed
    assert all(key == choice or key.startswith(f"{choice}.") for key in changed - alarm)
    assert ablated[name].stages == ours.stages


def test_ablations_share_backbone_order_steps_demonstrations_and_tests_with_lapa(arms, ablated):
    ours = arms["in-domain", "lapa", 0].run
    for method in ABLATIONS:
        run = ablated[method.name].run
        assert (run.seed, run.videos, run.robot, run.pretrain, run.evaluate) == (
            ours.seed, ours.videos, ours.robot, ours.pretrain, ours.evaluate,
        )  # fmt: skip
        assert (run.laq.fit, run.laq.stream) == (ours.laq.fit, ours.laq.stream)
        assert (run.finetune.fit, run.finetune.head) == (ours.finetune.fit, ours.finetune.head)


def test_an_ablation_of_finetuning_learns_the_codes_of_lapa(arms, ablated):
    ours = arms["in-domain", "lapa", 0].run
    shared = [name for name in VARIED if static_key(ablated[name].run, "laq") == static_key(ours, "laq")]
    assert shared == ["latent-loss"]


def test_ablations_are_no_part_of_a_study_unless_asked_for(arms):
    assert {arm.method for arm in arms.values()} == set(STUDIED)
    assert not set(STUDIED) & {method.name for method in ABLATIONS}
    asked = arms_of(Study(size="small", seeds=1, methods=("lapa", "fsq")))
    assert [arm.setting for arm in asked if arm.method == "fsq"] == ["in-domain"]


def test_a_method_that_needs_a_setting_is_asked_for_by_name_and_has_it_alone():
    study = Study(size="small", seeds=1, settings=("distractors",), methods=("lapa", "floor", "lapa-features"))
    with pytest.raises(ConfigError, match=rf"'lapa-features' needs {ENCODER}.*imagenet_encoder"):
        arms_of(study)
    found = {arm.method: arm.run for arm in arms_of(replace(study, overrides={ENCODER: "folder"}))}
    plain = {arm.method: arm.run for arm in arms_of(replace(study, methods=("lapa", "floor")))}
    assert {name: found[name] for name in plain} == plain
    assert found["lapa-features"].laq.model.target.encoder == "folder"
    assert static_key(found["lapa-features"], "laq") != static_key(found["lapa"], "laq")
    assert "lapa-features" not in STUDIED
