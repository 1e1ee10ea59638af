"""What evaluation says where it has nothing to compare with, and how its processes get their policies."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from lapa import files
from lapa.config.data import StreamConfig
from lapa.config.load import load_run
from lapa.config.stages import FinetuneConfig
from lapa.config.vla import FlowHead
from lapa.data.dataset import Dataset
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.policy.policy import Policy
from lapa.stages.context import Stage
from lapa.stages.evaluate import evidence_of, held_out_numbers, policy_for_shard, shown_episodes
from lapa.stages.results import Artifact
from lapa.tracking.evidence import evaluations_of
from lapa.tracking.registry import POLICY_MODEL, Registry
from lapa.tracking.tracker import NullTracker
from lapa.types.episodes import Observation
from tests.builders import make_dataset
from tests.models.vla.models import seeded, small_convolutional, spec_of
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)


@pytest.mark.parametrize(("episodes", "share"), [(1, 0.1), (4, 0.0)], ids=["an only episode", "a share of zero"])
def test_evaluation_without_held_out_episodes_says_so(episodes: int, share: float, tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=episodes))
    config = FinetuneConfig(stream=StreamConfig(validation_share=share))
    metrics, messages = held_out_numbers(cast(Policy, SimpleNamespace()), dataset, config)
    assert metrics == {}
    assert messages[0].startswith("No episode was held out")


def test_a_shard_meets_the_same_policy_whatever_its_process_did_before(tmp_path: Path):
    save_vla(tmp_path / "model", seeded(spec_of(small_convolutional(), FlowHead(horizon=2, width=32), latent=False)))
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={})
    observations = [Observation(image=np.full((24, 24, 3), 90, dtype=np.uint8))]

    def first_answer(shard: int) -> np.ndarray:
        return policy_for_shard(str(tmp_path / "bundle"), shard)(observations, ["push"])[0].actions

    alone, other = first_answer(1), first_answer(0)
    np.testing.assert_array_equal(first_answer(1), alone)
    assert (other != alone).any()


@pytest.mark.parametrize("turn", [3, 6, 23])
def test_the_shown_episodes_are_of_many_kinds_and_splits(turn: int):
    shown = shown_episodes(180)
    assert len(shown) == len(set(shown)) == 12 and min(shown) >= 0 and max(shown) < 180
    assert len({index % turn for index in shown}) >= min(turn, 8)
    assert shown_episodes(5) == [0, 1, 2, 3, 4]


def test_a_new_evaluation_takes_the_place_of_the_old_one_on_the_registered_policy(work: Path):  # noqa: F811
    """Gates read the last word on a benchmark, not the first."""
    run = load_run("tabletop-smoke", [f"work_url={work}"])
    policy = Artifact(url=str(work / "policy"), digest="d")
    files.write_json(files.join(policy.url, "manifest.json"), {})
    stage = Stage(
        name="evaluate", run=run, folder=str(work / "evaluate"), fingerprint="f", inputs={"policy": policy},
        tracker=NullTracker(), rank=0,
    )  # fmt: skip
    for success in (False, True):
        row = {"seed": 3, "kind": "reach", "split": None, "instruction": "go", "success": success}
        outcomes = {"policy": {"outcomes": [row]}, "benchmark": {"kind": "tabletop"}}
        files.write_json(files.join(stage.folder, "episodes.json"), outcomes)
        stage.register(POLICY_MODEL, policy, {}, evidence=evidence_of(stage))
    version = Registry.open(run.tracking, store=str(work)).get(POLICY_MODEL, 1)
    (evaluation,) = evaluations_of(version)
    assert (evaluation.success_rate, evaluation.simulator) == (1.0, "tabletop")
