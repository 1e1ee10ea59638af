"""Manifests are compared whole. After a change that is meant: `LAPA_WRITE_GOLDEN=1 pytest tests/k8s/test_golden.py`."""

import os
from pathlib import Path

import pytest
import yaml
from job_specs import GOLDEN, PIPELINE

from lapa_k8s.rendering.manifests import render, to_yaml
from lapa_k8s.rendering.pipeline import render_pipeline

FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", GOLDEN)
def test_a_job_renders_to_exactly_these_manifests(name: str):
    compare(name, to_yaml(render(GOLDEN[name])))


def test_a_pipeline_renders_to_exactly_these_manifests():
    compare("pipeline", to_yaml(render_pipeline(PIPELINE)))


def compare(name: str, rendered: str) -> None:
    path = FOLDER / f"{name}.yaml"
    if os.environ.get("LAPA_WRITE_GOLDEN"):
        path.write_text(rendered)
    assert rendered == path.read_text()


@pytest.mark.parametrize("name", GOLDEN)
def test_yaml_says_what_the_objects_say(name: str):
    manifests = render(GOLDEN[name])
    assert list(yaml.safe_load_all(to_yaml(manifests))) == list(manifests)


def test_every_golden_file_has_its_spec():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*GOLDEN, "pipeline"}
