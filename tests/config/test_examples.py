"""The run files under `examples/` are what they say."""

from pathlib import Path

import pytest

from lapa.config.load import arms, load_run
from lapa.stages.plan import stages_of

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_run_named_after_its_file(path):
    run = load_run(str(path))
    assert run.name == path.stem
    assert arms(run)


@pytest.mark.parametrize("name", ["bridge", "lerobot"])
def test_videos_and_robot_episodes_are_one_source(name):
    run = load_run(f"{EXAMPLES[0].parent}/{name}.yaml")
    assert run.videos == run.robot


def test_raw_videos_end_with_a_latent_policy():
    run = load_run(f"{EXAMPLES[0].parent}/raw-videos.yaml")
    assert stages_of(run) == ["ingest", "laq", "label", "pretrain"]
