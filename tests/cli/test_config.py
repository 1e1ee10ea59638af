"""`lapactl config`."""

import json

import yaml

from lapa.config.load import load_run
from lapa.config.presets import PRESETS


def test_show_prints_a_run_that_loads_as_the_same_run(lapactl, tmp_path):
    result = lapactl("config", "show", "tabletop", "--set", "laq.fit.steps=7", "--set", "seed=3")
    file = tmp_path / "run.yaml"
    file.write_text(result.stdout)
    assert load_run(str(file)) == load_run("tabletop", ["laq.fit.steps=7", "seed=3"])
    assert lapactl("config", "show", file).stdout == result.stdout


def test_show_prints_json_too(lapactl):
    shown = json.loads(lapactl("config", "show", "tabletop", "--output", "json").stdout)
    assert shown == yaml.safe_load(lapactl("config", "show", "tabletop").stdout)


def test_a_misspelt_key_names_the_nearest_one(lapactl):
    result = lapactl("config", "show", "tabletop", "--set", "laq.fit.stepz=7")
    assert result.exit_code == 2
    assert "laq.fit.stepz" in result.stderr
    assert "steps" in result.stderr
    assert result.stdout == ""


def test_a_misspelt_preset_names_the_nearest_one(lapactl):
    result = lapactl("config", "show", "tabeltop")
    assert result.exit_code == 2
    assert "'tabletop'" in result.stderr


def test_presets_are_listed_with_what_they_are_for(lapactl_json):
    listed = lapactl_json("config", "presets")
    assert [row["preset"] for row in listed] == list(PRESETS)
    assert all(row["for"] for row in listed)


def test_the_schema_describes_every_section(lapactl_json):
    assert {"laq", "pretrain", "finetune"} <= set(lapactl_json("config", "schema")["properties"])
