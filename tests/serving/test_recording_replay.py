"""Recorded observations, asked of another policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policy_server import PATIENCE

from lapa.config.serving import ServingConfig
from lapa.config.vla import L1Head
from lapa.errors import DataError, PolicyError
from lapa.policy.policy import Policy
from lapa.serving.metrics import Metrics
from lapa.serving.recording import Recorder
from lapa.serving.recording_format import Seen, read_samples
from lapa.serving.recording_replay import compare
from lapa.types.episodes import Observation
from tests.models.vla.models import seeded, small_convolutional, spec_of, two_dims_and_a_gripper

NAMES = two_dims_and_a_gripper().names
ROWS = 20


def policy_with(horizon: int = 3, *, proprioception: int = 0) -> Policy:
    head = L1Head(horizon=horizon)
    spec = spec_of(small_convolutional(), head, latent=False, frame_size=24, proprioception_dims=proprioception)
    return Policy(seeded(spec))


def recorded(folder: Path, policy: Policy, *, names: tuple[str, ...] = NAMES, digest: str = "d" * 64) -> str:
    """What a server of the policy would have recorded: `ROWS` observations of two episodes."""
    card = {"name": "tiny", "version": "7", "digest": digest, "action_names": names}
    recorder = Recorder(ServingConfig(bundle="b"), str(folder), card, Metrics())
    recorder.start()
    random = np.random.default_rng(0)
    for row in range(ROWS):
        observation = Observation(image=random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        (chunk,) = policy.act([observation], ["push"])
        seen = Seen(
            episode=f"e{row % 2}", protocol="openpi", request_id=f"r{row}", time=float(row), observation=observation,
            instruction="push", actions=chunk.actions, clamped=0,
        )  # fmt: skip
        recorder.offer(seen)
    recorder.close(PATIENCE)
    return str(folder)


def shifted(policy: Policy, dimension: int, by: float) -> Policy:
    """Answers with one dimension moved, but where that would leave the range."""
    act = policy.act

    def moved(observations, instructions):
        chunks = act(observations, instructions)
        return [replace(c, actions=c.actions + by * (np.arange(len(NAMES)) == dimension)) for c in chunks]

    policy.act = moved  # type: ignore[method-assign]
    return policy


def test_the_same_policy_answers_the_same(tmp_path):
    found = compare(policy_with(), read_samples(recorded(tmp_path, policy_with())))
    assert (found["observations"], found["episodes"], found["timesteps_compared"]) == (ROWS, 2, 3)
    assert found["share_beyond"] == 0 and max(row["max_of_range"] for row in found["dimensions"]) < 1e-5
    assert found["recorded"] == [{"name": "tiny", "version": "7", "digest": "d" * 64}] and not found["is_sampling"]


def test_a_difference_is_told_by_dimension_in_units_and_shares_and_the_worst_is_named(tmp_path):
    policy = policy_with()
    span = policy.high[1] - policy.low[1]
    found = compare(shifted(policy, 1, 0.02 * span), read_samples(recorded(tmp_path, policy_with())))
    still, moved, gripper = found["dimensions"]
    assert moved["mean"] == pytest.approx(0.02 * span, rel=1e-4) and moved["max_of_range"] == pytest.approx(
        0.02, rel=1e-4
    )
    assert moved["share_beyond"] == 1 and still["share_beyond"] == gripper["share_beyond"] == 0
    assert found["share_beyond"] == pytest.approx(1 / 3) and found["observations_beyond"] == 1
    assert len(found["worst"]) == 5 and {row["dimension"] for row in found["worst"]} == {"y"}
    worst = found["worst"][0]
    assert worst["now"] - worst["recorded"] == pytest.approx(0.02 * span, rel=1e-3)
    assert worst["request_id"].startswith("r") and worst["instruction"] == "push"
    relaxed = compare(policy, read_samples(str(tmp_path)), tolerance=0.05, limit=7)
    assert relaxed["share_beyond"] == 0 and relaxed["observations"] == 7


def test_versions_of_other_horizons_are_compared_over_what_they_share(tmp_path):
    recorded(tmp_path, policy_with(3))
    recorded(tmp_path, policy_with(2), digest="e" * 64)
    found = compare(policy_with(4), read_samples(str(tmp_path)))
    assert (found["observations"], found["timesteps_compared"], len(found["recorded"])) == (2 * ROWS, 2, 2)


def test_a_recording_of_another_robot_is_refused(tmp_path):
    url = recorded(tmp_path, policy_with(), names=("x", "y"))
    with pytest.raises(PolicyError, match=r"recorded actions \(x, y\); the policy answers with \(x, y, gripper\)"):
        compare(policy_with(), read_samples(url))


def test_a_policy_that_looks_at_more_than_was_recorded_is_refused(tmp_path):
    url = recorded(tmp_path, policy_with())
    with pytest.raises(PolicyError, match="looks at 2 finite proprioception numbers, an observation has none"):
        compare(policy_with(proprioception=2), read_samples(url))


def test_an_empty_recording_is_an_error():
    with pytest.raises(DataError, match="holds no observation"):
        compare(policy_with(), iter(()))
