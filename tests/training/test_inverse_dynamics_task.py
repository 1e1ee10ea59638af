"""The supervised labeller learns motion from frames, and says how much of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from lapa.config.training import FitConfig, OptimizerConfig, TorchEngineConfig
from lapa.models.inverse_dynamics.model import InverseDynamicsModel, InverseDynamicsSpec, load_inverse_dynamics_model
from lapa.training.engine import build_engine
from lapa.training.fit import accumulate
from lapa.training.tasks.inverse_dynamics import ExplainedVariance, InverseDynamicsTask
from tests.training.laq import MOVES, moving_blocks

SPEC = InverseDynamicsSpec(
    image_size=24, width=8, blocks=(1, 1, 1), action_names=("down", "right"),
    action_mean=(0.0, 0.0), action_std=(0.02, 0.02),
)  # fmt: skip


def pairs(count, seed):
    """Blocks that move, and the action that moved them: 0.01 robot units per pixel."""
    batch, moves = moving_blocks(count, seed)
    return replace(batch, motion=torch.from_numpy(0.01 * MOVES[moves]).float())


def engine_of(spec=SPEC):
    fit = FitConfig(steps=100, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3))
    return build_engine(lambda: InverseDynamicsModel(spec), TorchEngineConfig(device="cpu", threads=1), fit, seed=0)


@torch.no_grad()
def validate(task, engine, batches):
    engine.model.eval()
    return task.validate(engine, batches)


def test_it_learns_the_action_between_two_frames(tmp_path):
    task, engine = InverseDynamicsTask(SPEC), engine_of()
    before = validate(task, engine, [pairs(64, seed=99)])
    assert before["r2"] < 0.2
    engine.model.train()
    for step in range(60):
        engine.backward(task.losses(engine, pairs(32, seed=step))["total"])
        engine.update()
    after = validate(task, engine, [pairs(64, seed=99), pairs(64, seed=98)])
    assert after["r2"] > 0.9 and after["r2/down"] > 0.9 and after["pairs"] == 128
    assert "is explained" in task.verdicts(after)[0]
    task.save(tmp_path, engine.full_state())
    held_out = pairs(16, seed=97)
    predicted = load_inverse_dynamics_model(str(tmp_path)).predict(held_out.pair)
    assert (predicted - held_out.motion).abs().mean() < 0.01  # robot units: a move is 0.03


def test_every_known_pair_weighs_the_same_in_whatever_micro_batch_it_falls():
    batch = pairs(8, seed=0)
    batch.motion[[0, 1, 6]] = torch.nan
    gradients = []
    for micro_batch_size in (None, 3):
        engine = engine_of()
        losses = accumulate(InverseDynamicsTask(SPEC), engine, batch, micro_batch_size, seed=0)
        gradients.append((losses["total"], engine.model.to_action.weight.grad))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)  # sums in another order


def test_explained_variance_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    truth = random.normal(3, (1, 5), size=(50, 2))
    guess = truth + random.normal(0, (0.5, 4), size=(50, 2))
    tally = ExplainedVariance(("a", "b"), torch.device("cpu"))
    for part in (slice(0, 20), slice(20, 50)):
        tally.add(torch.from_numpy(guess[part]), torch.from_numpy(truth[part]))
    metrics = tally.metrics(engine_of())
    expected = r2_score(truth, guess, multioutput="raw_values")
    assert [metrics["r2/a"], metrics["r2/b"]] == pytest.approx(expected)
    assert metrics["r2"] == pytest.approx(expected.mean())


def test_a_dimension_that_never_varies_has_no_explained_variance():
    tally = ExplainedVariance(("a", "still"), torch.device("cpu"))
    truth = torch.tensor([[1.0, 0.3], [2.0, 0.3], [4.0, 0.3]])
    tally.add(truth + 0.1, truth)
    metrics = tally.metrics(engine_of())
    assert "r2/still" not in metrics and metrics["r2"] == metrics["r2/a"]


def test_pairs_without_a_known_action_teach_nothing():
    task, engine, batch = InverseDynamicsTask(SPEC), engine_of(), pairs(8, seed=0)
    withheld = batch.motion.clone()
    withheld[4:] = torch.nan
    loss = task.losses(engine, replace(batch, motion=withheld))["total"]
    half = replace(batch, current=batch.current[:4], future=batch.future[:4], motion=batch.motion[:4])
    torch.testing.assert_close(loss, task.losses(engine, half)["total"])
    assert validate(task, engine, [replace(batch, motion=withheld)])["pairs"] == 4
    nothing = replace(batch, motion=torch.full_like(withheld, torch.nan))
    assert task.losses(engine, nothing)["total"] == 0
    assert "raise laq.stream.validation_share" in task.verdicts(validate(task, engine, [nothing]))[0]
