"""Settings become one resolved run, or an error that says what to type instead."""

import pytest
import yaml

from lapa.config.base import result_settings
from lapa.config.load import arms, dump_run, load_run, resolve, run_schema
from lapa.config.presets import PRESETS
from lapa.config.vla import L1Head
from lapa.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_a_dumped_preset_loads_as_the_same_run(name):
    run = load_run(name)
    assert resolve(yaml.safe_load(dump_run(run))) == run


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_what_it_is_for(name):
    assert PRESETS[name].__doc__


def test_an_override_reaches_a_nested_setting():
    assert load_run("tabletop", ["laq.fit.steps=7"]).laq.fit.steps == 7


def test_changing_a_kind_starts_that_choice_from_its_defaults():
    run = load_run("tabletop", ["finetune.head.kind=l1", "finetune.head.horizon=3"])
    assert run.finetune is not None
    assert run.finetune.head == L1Head(horizon=3)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("laq.fit.stepz=3", r"laq\.fit\.stepz: unknown key. Did you mean 'steps'\?"),
        ("pretran.fit.steps=3", r"pretran: unknown key. Did you mean 'pretrain'\?"),
        ("laq.fits.steps=3", r"laq\.fits: unknown key. Did you mean 'fit'\?"),
        ("train.fit.steps=3", r"train: unknown key. Did you mean 'pretrain'\?"),
        ("sed.key=1", r"sed: unknown key. Valid: videos, robot, laq, "),
        ("nonsense.key=1", r"nonsense: unknown key. Valid: videos, robot, laq, "),
        ("laq.nonsense=1", r"laq\.nonsense: unknown key. Valid: "),
        ("laq.model.quantizer.kind=fsqq", r"laq\.model\.quantizer\.kind: 'fsqq' is not a choice. Did you mean 'fsq'\?"),
        ("laq.fit.batch_size=0", r"laq\.fit\.batch_size: input should be greater than 0, not 0"),
        ("laq.stream.workers=3", r"laq\.stream: workers=3 does not divide lanes=8"),
        ("laq.model.quantizer.kind=none", "makes no codes to pretrain on; choose nsvq, vq_ema or fsq"),
        ("laq.fit.precision=fp8", r"laq\.fit\.precision: 'fp8' is not a choice; valid are 'fp32' or 'bf16'"),
        ("pretrain=null", r"finetune\.backbone says what to start from"),
        ("laq.fit.steps", "not of the form key.path=value"),
        ("finetune.backbone.kind=convolutional", "backbone would be ignored: .*[Ss]et finetune.backbone to null"),
        ("baselines.tabletop.seed=1", "a baseline is called 'tabletop', .*rename the baseline"),
        (
            "baselines.other.laq.fit.stepz=3",
            r"baseline 'other'.*\n.*laq\.fit\.stepz: unknown key. Did you mean 'steps'",
        ),
        (
            "pretrain.backbone={kind: huggingface, freeze_vision: false, lora: {}}",
            "freeze_vision=false would be ignored; set freeze_vision to true, or lora to null",
        ),
    ],
)
def test_a_wrong_setting_names_the_key_the_rule_and_the_choice(override, expected):
    with pytest.raises(ConfigError, match=expected):
        load_run("tabletop", [override])


def test_a_gate_without_robot_episodes_to_probe_is_refused():
    latent_only = ["robot=null", "finetune=null", "evaluate=null", "baselines={}"]
    with pytest.raises(ConfigError, match=r"set robot, or set laq\.gate to null"):
        load_run("tabletop", latent_only)
    assert load_run("tabletop", [*latent_only, "laq.gate=null"]).robot is None


def test_overriding_a_setting_of_one_baseline_keeps_the_others_and_its_own():
    before = load_run("tabletop").baselines["scratch"]
    changes = ["baselines.scratch.finetune.fit.steps=7", "baselines.vpt.laq.window_seconds=0.2"]
    run = load_run("tabletop", changes)
    assert run.baselines["scratch"] == {**before, "finetune.fit.steps": 7}
    assert arms(run)["scratch"].finetune.fit.steps == 7
    assert arms(run)["vpt"].laq.window_seconds == 0.2


def test_an_unknown_preset_names_the_nearest_one():
    with pytest.raises(ConfigError, match="Did you mean 'tabletop'"):
        load_run("tabletp")


def test_a_file_may_say_only_what_differs_from_a_preset(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: tabletop\nname: mine\nlaq: {fit: {steps: 5}}\n")
    run = load_run(str(file))
    assert (run.name, run.laq.fit.steps) == ("mine", 5)
    assert run.laq.fit.batch_size == load_run("tabletop").laq.fit.batch_size


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("a: [1")
    with pytest.raises(ConfigError, match=r"run\.yaml is not valid YAML"):
        load_run(str(file))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes("preset: tabletop\nname: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"run\.yaml is not UTF-8 text.*save it as UTF-8"):
        load_run(str(file))


def test_baselines_are_the_same_programs_with_other_settings():
    resolved = arms(load_run("tabletop"))
    assert list(resolved) == ["tabletop", "scratch"]
    assert resolved["scratch"].name == "tabletop-scratch"
    assert resolved["scratch"].pretrain is None
    assert resolved["scratch"].robot == resolved["tabletop"].robot


def test_runtime_settings_are_no_part_of_what_a_stage_makes():
    changes = ["engine.kind=deepspeed", "laq.stream.workers=2", "reads.cache.max_bytes=1000", "reads.attempts=2"]
    run, other = load_run("tabletop"), load_run("tabletop", changes)
    assert result_settings(run) == result_settings(other)
    assert result_settings(run) != result_settings(load_run("tabletop", ["laq.fit.steps=9"]))


def test_the_schema_says_what_a_setting_does_and_in_which_unit():
    window = run_schema()["$defs"]["LaqConfig"]["properties"]["window_seconds"]
    assert "0.6 s for robots" in window["description"]
