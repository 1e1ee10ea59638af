from dataclasses import replace

import pytest
import torch

from lapa.config.training import FitConfig, OptimizerConfig, TorchEngineConfig
from lapa.config.vla import BinnedHead, L1Head
from lapa.models.vla.model import build_vla
from lapa.models.vla.storage import load_vla
from lapa.training.engine import build_engine
from lapa.training.tasks.finetune import FinetuneTask
from lapa.training.tasks.pretrain import PretrainTask
from tests.models.vla.models import small_convolutional, some_batch, spec_of


def engine_of(spec, rate=5e-3):
    fit = FitConfig(steps=100, batch_size=3, optimizer=OptimizerConfig(learning_rate=rate))
    return build_engine(lambda: build_vla(spec), TorchEngineConfig(device="cpu"), fit, seed=0)


def train(task, engine, batch, steps):
    for _ in range(steps):
        losses = task.losses(engine, batch)
        engine.backward(losses["total"])
        engine.update()


@torch.no_grad()
def validate(task, engine, batches):
    engine.model.eval()
    return task.validate(engine, batches)


def test_pretraining_beats_the_most_frequent_code_once_it_has_learned():
    spec = spec_of(small_convolutional())
    task, engine, batch = PretrainTask(spec), engine_of(spec), some_batch()
    before = validate(task, engine, [batch])
    assert "does not beat" in task.verdicts(before)[0]
    engine.model.train()
    train(task, engine, batch, 60)
    after = validate(task, engine, [batch])
    assert after["latent"] < before["latent"]
    assert after["accuracy/latent_action"] == 1 and "; this beats" in task.verdicts(after)[0]


@pytest.mark.parametrize(
    ("accuracy", "majority", "verdict"),
    [(0.8634, 0.8626, "only ties with"), (0.86250001, 0.8625, "only ties with"), (0.87, 0.86, "beats"),
     (0.85, 0.86, "does not beat")],
)  # fmt: skip
def test_an_accuracy_that_reads_like_the_majoritys_is_a_tie(accuracy: float, majority: float, verdict: str):
    metrics = {"samples": 800.0, "accuracy/latent_action": accuracy, "majority/latent_action": majority}
    assert f"; this {verdict} always" in PretrainTask(spec_of(small_convolutional())).verdicts(metrics)[0]


def test_the_majority_baseline_counts_codes_over_all_batches():
    spec = spec_of(small_convolutional())
    task, engine, batch = PretrainTask(spec), engine_of(spec), some_batch(2)
    batches = [replace(batch, codes=torch.tensor(codes)) for codes in ([[0] * 4, [0] * 4], [[0, 0, 0, 1], [7] * 4])]
    metrics = validate(task, engine, batches)
    assert metrics["samples"] == 4
    assert metrics["majority/code_0"] == 0.75 and metrics["majority/code_3"] == 0.5
    assert metrics["majority/latent_action"] == 0.5


@pytest.mark.parametrize("head", [BinnedHead(bins=16, horizon=2), L1Head(horizon=2)], ids=lambda head: head.kind)
def test_finetuning_beats_the_mean_action_once_it_has_learned(head):
    spec = spec_of(small_convolutional(), head, latent=False)
    task, engine, batch = FinetuneTask(spec), engine_of(spec), some_batch()
    train(task, engine, batch, 100)
    metrics = validate(task, engine, [batch])
    assert metrics["normalized_mae"] < 0.5 * metrics["mean_action/normalized_mae"]
    assert "does not know more" not in task.verdicts(metrics)[0]


def test_a_policy_that_knows_nothing_says_so():
    spec = spec_of(small_convolutional(), BinnedHead(bins=16, horizon=2), latent=False)
    assert (
        "does not know more"
        in FinetuneTask(spec).verdicts({"timesteps": 5.0, "normalized_mae": 1.1, "mean_action/normalized_mae": 1.0})[0]
    )
    assert "No episode was held out" in FinetuneTask(spec).verdicts({"timesteps": 0.0})[0]


def test_timesteps_past_the_end_of_an_episode_are_not_judged():
    spec = spec_of(small_convolutional(), BinnedHead(bins=16, horizon=2), latent=False)
    task, engine, batch = FinetuneTask(spec), engine_of(spec), some_batch()
    real = batch.action_is_real.clone()
    real[:, 1] = False
    far = batch.actions.clone()
    far[:, 1, :2] = 1e6
    metrics = validate(task, engine, [replace(batch, actions=far, action_is_real=real)])
    assert metrics["timesteps"] == 3 and metrics["mae"] < 100


def test_the_latent_loss_joins_with_its_weight():
    spec = spec_of(small_convolutional(), BinnedHead(bins=16, horizon=2))
    engine, batch = engine_of(spec), some_batch()
    losses = FinetuneTask(spec, latent_loss_weight=0.5).losses(engine, batch)
    torch.testing.assert_close(losses["total"], losses["action"] + 0.5 * losses["latent"])


def test_a_latent_weight_without_labels_warns_that_it_is_ignored(caplog):
    spec = spec_of(small_convolutional(), BinnedHead(bins=16, horizon=2))
    losses = FinetuneTask(spec, latent_loss_weight=0.5).losses(engine_of(spec), replace(some_batch(), codes=None))
    assert torch.equal(losses["total"], losses["action"])
    assert "latent_loss_weight" in caplog.text


def test_a_task_saves_what_the_engine_trained(tmp_path):
    spec = spec_of(small_convolutional())
    task, engine, batch = PretrainTask(spec), engine_of(spec), some_batch()
    train(task, engine, batch, 3)
    task.prepare_save()
    task.save(tmp_path, engine.full_state())
    loaded = load_vla(str(tmp_path))
    engine.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch)["latent"], engine.run(batch)["latent"])
