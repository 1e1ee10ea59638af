"""What probes, controls, leakage and transfer say of codes whose meaning is known."""

from dataclasses import replace

import numpy as np
import pytest

from lapa.analysis.leakage import camera_leakage
from lapa.analysis.probe_report import verdicts
from lapa.analysis.probe_results import ProbeScore
from lapa.analysis.probing import code_usage, information_about, probe_scores
from lapa.analysis.transfer import transfer_scores


def score(scores: tuple[ProbeScore, ...], features: str, condition: str = "held-out", probe: str = "linear") -> float:
    found = [s for s in scores if (s.features, s.condition, s.probe) == (features, condition, probe)]
    assert len(found) == 1 and found[0].mean.r2 is not None
    return found[0].mean.r2


def test_codes_that_name_motion_are_found_and_the_controls_are_not(encoded_of, pairs_count) -> None:
    """Half the variance is the code's mean, half is noise, so R2 is one half."""
    random = np.random.default_rng(0)
    codes = random.integers(2, size=(pairs_count, 2))
    actions = 2.0 * codes - 1 + random.normal(size=codes.shape)
    scores = probe_scores(encoded_of(codes, actions=actions, vectors=2.0 * codes))
    for features in ("codes", "joint", "vectors"):
        assert score(scores, features) == pytest.approx(0.5, abs=0.06)
    assert score(scores, "codes", probe="mlp") == pytest.approx(0.5, abs=0.06)
    assert abs(score(scores, "codes", "shuffled-pairs")) < 0.05
    assert abs(score(scores, "codes", "shuffled-time")) < 0.05


def test_codes_that_name_the_episode_survive_shuffled_time_and_nothing_else(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    scene = np.repeat(np.arange(20) % 4, pairs_count // 20)
    actions = (scene[:, None] * 3.0) + random.normal(size=(pairs_count, 1))
    scores = probe_scores(encoded_of(np.stack([scene, scene], axis=1), actions=actions))
    assert score(scores, "codes") > 0.85
    assert score(scores, "codes", "shuffled-time") > 0.85
    assert score(scores, "codes", "shuffled-pairs") < 0.05


def test_whole_latent_actions_tell_what_positions_alone_do_not(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(2, size=(pairs_count, 2))
    actions = (codes[:, :1] ^ codes[:, 1:]).astype(float)
    scores = probe_scores(encoded_of(codes, actions=actions))
    assert score(scores, "joint") > 0.99 and score(scores, "codes") < 0.1


def test_information_of_codes_that_are_the_action_is_the_actions_entropy(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(4, size=pairs_count), random.integers(4, size=pairs_count)], axis=1)
    found = {
        (item.codes, item.about): item
        for item in information_about(encoded_of(codes, actions=codes[:, :1].astype(float)))
    }
    assert found["position 0", "a0"].bits == pytest.approx(2.0, abs=0.03)
    assert found["position 1", "a0"].bits == pytest.approx(0.0, abs=0.03)
    assert found["position 1", "a0"].bits < found["position 1", "a0"].bits_by_chance
    assert found["joint", "a0"].bits == pytest.approx(2.0, abs=0.1)


def test_codes_that_name_the_camera_leak(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(4, size=(pairs_count, 1))
    camera = np.stack([codes[:, 0] * 0.02, np.zeros(pairs_count), np.zeros(pairs_count)], axis=1)
    camera += random.normal(size=camera.shape) * 1e-4
    leak = camera_leakage(encoded_of(codes, actions=random.normal(size=(pairs_count, 2)), camera=camera))
    assert leak.moves and leak.code_share is not None and leak.code_share > 0.95
    assert leak.action_share is not None and leak.action_share < 0.05
    right = leak.global_motion["right"].r2
    assert right is not None and right > 0.99
    assert leak.global_motion["down"].r2 is None  # it rests
    assert leak.actions_from_codes is not None and leak.actions_from_codes.r2 == pytest.approx(0, abs=0.05)


def test_codes_that_name_motion_do_not_leak_under_a_shaking_camera(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(4, size=(pairs_count, 1))
    camera = random.normal(size=(pairs_count, 3)) * 0.02
    actions = codes + random.normal(size=codes.shape) * 0.1
    leak = camera_leakage(encoded_of(codes, actions=actions, camera=camera))
    assert leak.moves and leak.code_share is not None and leak.code_share < 0.05
    assert leak.actions_from_both is not None and leak.actions_from_camera is not None
    assert leak.actions_from_both.r2 == pytest.approx(0.99, abs=0.01)
    assert leak.actions_from_camera.r2 == pytest.approx(0, abs=0.05)


def test_a_probe_taken_to_other_units_needs_a_scale_and_to_other_meanings_a_new_fit(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(8, size=(pairs_count, 1))
    here = encoded_of(codes, actions=codes.astype(float), vectors=codes.astype(float))
    scaled = encoded_of(codes, actions=codes * 5.0 + 3, vectors=codes.astype(float))
    permuted = encoded_of(codes, actions=random.permutation(8)[codes].astype(float), vectors=codes.astype(float))
    units, meanings = (transfer_scores(here, other).scores[0] for other in (scaled, permuted))
    assert units.transferred.r2 is not None and units.transferred.r2 < 0
    assert units.realigned.r2 == pytest.approx(1, abs=1e-3) and units.refitted.r2 == pytest.approx(1, abs=1e-3)
    assert meanings.realigned.r2 is not None and meanings.realigned.r2 < 0.6
    assert meanings.refitted.r2 == pytest.approx(1, abs=1e-3)


def test_a_probe_taken_to_a_body_with_turned_and_mirrored_axes_needs_only_to_be_realigned(
    encoded_of, pairs_count
) -> None:
    motion = np.random.default_rng(0).normal(size=(8, 2))
    codes = np.random.default_rng(1).integers(8, size=(pairs_count, 1))
    axes = np.array([[0.6, 0.8], [0.8, -0.6]])
    here, turned = (encoded_of(codes, actions=actions[codes[:, 0]]) for actions in (motion, 3 * motion @ axes))
    found = transfer_scores(here, turned).scores[0]
    assert found.transferred.r2 is not None and found.transferred.r2 < 0.5
    assert found.realigned.r2 == pytest.approx(1, abs=1e-3)


def test_a_transfer_between_bodies_of_other_dimensions_says_why_there_is_none(encoded_of, pairs_count) -> None:
    codes = np.random.default_rng(0).integers(8, size=(pairs_count, 1))
    two, three = (encoded_of(codes, actions=np.repeat(codes, n, axis=1) * 1.0) for n in (2, 3))
    found = transfer_scores(two, three)
    assert not found.scores and "actions with 2 dimensions" in found.note and "3 dimensions" in found.note


def test_a_collapsed_codebook_is_the_first_thing_told(encoded_of, pairs_count) -> None:
    encoded = encoded_of(
        np.zeros((pairs_count, 2), np.int64), actions=np.random.default_rng(0).normal(size=(pairs_count, 2))
    )
    usage = code_usage(encoded)
    assert usage is not None and usage.joint_perplexity == pytest.approx(1) and usage.joint_used == 1
    words = verdicts(probe_scores(encoded), usage, camera_leakage(encoded), (), None)
    assert "collapsed" in words[0] and "tell nothing" in words[1]


def test_without_codes_nothing_is_said_of_what_they_tell_of_the_camera(encoded_of, pairs_count) -> None:
    random = np.random.default_rng(0)
    camera = random.normal(size=(pairs_count, 3)) * 0.02
    codes = np.zeros((pairs_count, 0), np.int64)
    leak = camera_leakage(replace(encoded_of(codes, vectors=camera * 5, camera=camera), codebook_size=0))
    assert leak.code_share is None and leak.global_motion["right"].r2 == pytest.approx(1, abs=1e-3)
    assert not any("Camera" in words for words in verdicts((), None, leak, (), None))
