"""Training the latent-action model: codebooks start from data and come back to life, and validation tells why to
stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lapa.config.latent_action import (
    FsqConfig,
    NsvqConfig,
    PublishedRevivalConfig,
    QuantizerConfig,
    RevivalConfig,
    VqEmaConfig,
)
from lapa.config.stages import HealthConfig, LaqConfig, ProbeGate
from lapa.config.training import TorchEngineConfig
from lapa.data.dataset import Dataset
from lapa.errors import CodebookCollapsed
from lapa.models.latent_action.model import build_latent_action_model, load_latent_action_model
from lapa.tracking.tracker import NullTracker
from lapa.training.fit import accumulate
from lapa.training.seeding import mix
from lapa.training.tasks.laq import LaqTask
from lapa.training.torch_engine import TorchEngine
from tests.builders import make_dataset
from tests.distributed import run_ranks
from tests.training.laq import laq_config, moving_blocks


def engine_of(config: LaqConfig, *, seed: int = 0) -> TorchEngine:
    return TorchEngine(
        lambda: build_latent_action_model(config.model), TorchEngineConfig(device="cpu"), config.fit, seed=seed
    )


def train(task: LaqTask, engine: TorchEngine, steps: int, *, seed: int = 6) -> list[dict[str, float]]:
    numbers = []
    for step in range(steps):
        accumulate(task, engine, moving_blocks(16, seed=step)[0], None, seed=mix(seed, step))
        engine.update()
        numbers.append(task.after_update(engine))
    return numbers


def validate(task: LaqTask, engine: TorchEngine) -> dict[str, float]:
    engine.model.eval()
    with torch.no_grad():
        metrics = task.validate(engine, [moving_blocks(64, seed=1000)[0]])
    engine.model.train()
    return metrics


VQ_EMA = VqEmaConfig(codebook_size=4, width=4, revival=RevivalConfig(every=10))


@pytest.mark.parametrize(
    ("quantizer", "seed"),
    [
        pytest.param(None, 0, id="nsvq"),
        pytest.param(VQ_EMA, 0, id="vq_ema"),
        pytest.param(VQ_EMA, 1, id="vq_ema-1", marks=pytest.mark.slow),
        pytest.param(VQ_EMA, 2, id="vq_ema-2", marks=pytest.mark.slow),
        pytest.param(FsqConfig(levels=(2, 2)), 0, id="fsq"),
    ],
)
def test_codes_come_to_name_the_move_of_a_block(quantizer: VqEmaConfig | FsqConfig | None, seed: int) -> None:
    """Moves are drawn evenly from four, so names given at random are right for little more than a quarter."""
    config = laq_config(quantizer)
    engine, task = engine_of(config, seed=seed), LaqTask(config)
    train(task, engine, 350, seed=6 + seed)
    metrics = validate(task, engine)
    assert metrics["relative_error"] < 0.6
    assert metrics["perplexity"] > 2.5
    batch, moves = moving_blocks(256, seed=2000)
    codes = engine.model.eval().encode(batch.pair).codes[:, 0].numpy()  # type: ignore[operator]
    majority = sum(np.bincount(moves[codes == code], minlength=4).max() for code in np.unique(codes))
    assert majority / len(moves) > 0.8


def test_the_codebook_starts_at_latents_of_the_first_batch() -> None:
    config = laq_config()
    engine, task = engine_of(config), LaqTask(config)
    batch, _ = moving_blocks(16, seed=0)
    latents = engine.model.eval().encode(batch.pair).vectors.flatten(0, 1)  # type: ignore[operator]
    engine.model.train()
    task.before_update(engine, [batch])
    distances = torch.cdist(engine.model.quantizer.codebook.detach(), latents).amin(1)  # type: ignore[union-attr]
    assert distances.max() < 0.1 * latents.std()
    assert bool(engine.model.quantizer.initialized)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("kind", [NsvqConfig, VqEmaConfig])
def test_micro_batches_change_neither_where_a_codebook_starts_nor_where_codes_restart(kind) -> None:
    config = laq_config(kind(codebook_size=4, width=4, revival=RevivalConfig(every=10)))
    started, restarted = [], []
    for micro_batch_size in (None, 4):
        engine, task = engine_of(config), LaqTask(config)
        batch, _ = moving_blocks(16, seed=0)
        first = accumulate(task, engine, batch, micro_batch_size, seed=1)["total"]
        codebook = engine.model.quantizer.codebook  # type: ignore[union-attr]
        started.append((first, codebook.detach().clone()))  # type: ignore[operator]
        with torch.no_grad():
            codebook[1:] = 1000.0  # type: ignore[index]
        engine.model.quantizer.pending_usage.zero_()  # type: ignore[union-attr, operator]
        if kind is VqEmaConfig:
            engine.model.quantizer.pending_sum.zero_()  # type: ignore[union-attr, operator]
        accumulate(task, engine, batch, micro_batch_size, seed=2)
        engine.step = 10
        assert task.after_update(engine)["revived_codes"] == 3
        restarted.append(codebook.detach().clone())  # type: ignore[operator]
    torch.testing.assert_close(started[1], started[0])
    torch.testing.assert_close(restarted[1], restarted[0])


def test_a_collapsed_codebook_recovers() -> None:
    config = laq_config()
    engine, task = engine_of(config), LaqTask(config)
    train(task, engine, 1)
    codebook = engine.model.quantizer.codebook  # type: ignore[union-attr]
    with torch.no_grad():
        codebook[1:] = 1000.0  # type: ignore[index]
    engine.model.quantizer.usage.zero_()  # type: ignore[union-attr, operator]
    assert validate(task, engine)["perplexity"] == 1
    numbers = train(task, engine, 9)
    assert numbers[-1]["revived_codes"] == 3
    assert engine.read("exp_avg", "quantizer.codebook")[1:].abs().max() == 0
    train(task, engine, 30)
    assert validate(task, engine)["perplexity"] > 1.5


STARTS = {
    "all rows equal": torch.zeros(4, 4),
    "all rows far from the latents": 3 + torch.randn(4, 4, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
@pytest.mark.parametrize("kind", ["nsvq", "vq_ema"])
def test_training_that_starts_from_a_collapsed_codebook_recovers_by_revival(kind: str, start: torch.Tensor) -> None:
    revival = RevivalConfig(every=10)
    nsvq, vq_ema = (cls(codebook_size=4, width=4, revival=revival) for cls in (NsvqConfig, VqEmaConfig))
    config = laq_config(nsvq if kind == "nsvq" else vq_ema, health=HealthConfig(on_collapse="stop"))
    engine, task = engine_of(config), LaqTask(config)
    start_from(engine, start)
    collapsed = validate(task, engine)
    assert collapsed["perplexity"] == 1 and collapsed["quantization_error"] >= 1
    train(task, engine, 300)
    metrics = validate(task, engine)
    assert metrics["perplexity"] > 2 and metrics["quantization_error"] < 1
    assert metrics["relative_error"] < 0.8


def start_from(engine: TorchEngine, codebook: torch.Tensor) -> None:
    with torch.no_grad():
        engine.model.quantizer.codebook.copy_(codebook)  # type: ignore[union-attr, operator]
    engine.model.quantizer.initialized.fill_(True)  # type: ignore[union-attr, operator]


def test_the_alarm_repairs_a_codebook_that_nothing_revives() -> None:
    config = laq_config(NsvqConfig(codebook_size=4, width=4, initialization="normal", revival=None))
    engine, task = engine_of(config), LaqTask(config)
    start_from(engine, STARTS["all rows far from the latents"])
    assert task.should_stop(validate(task, engine)) is None
    (numbers,) = train(task, engine, 1)
    assert numbers == {"repaired_codes": 4}
    train(task, engine, 150)
    metrics = validate(task, engine)
    assert task.should_stop(metrics) is None
    assert metrics["perplexity"] > 2 and not task.state()["repair_is_due"]


def test_a_repair_that_is_due_outlives_a_restart() -> None:
    config = laq_config()
    before, after = LaqTask(config), LaqTask(config)
    before.should_stop({"perplexity": 1.1})
    after.restore(json.loads(json.dumps(before.state())))
    (numbers,) = train(after, engine_of(config), 1)
    assert numbers == {"repaired_codes": 4}


def test_usage_is_complete_in_the_state_that_a_checkpoint_saves() -> None:
    config = laq_config(NsvqConfig(codebook_size=4, width=4, revival=RevivalConfig(every=1000)))
    engine, task = engine_of(config), LaqTask(config)
    train(task, engine, 5)
    assert int(engine.full_state()["quantizer.usage"].sum()) == 5 * 16


def test_validation_compares_with_copying_and_measures_the_codes() -> None:
    config = laq_config()
    engine, task = engine_of(config), LaqTask(config, tracker=NullTracker())
    train(task, engine, 1)
    metrics = validate(task, engine)
    batch, _ = moving_blocks(64, seed=1000)
    copied = (batch.current.float() / 255 - batch.pair.future.float() / 255).square().mean()
    assert metrics["copy_error"] == pytest.approx(float(copied), rel=1e-5)
    assert metrics["relative_error"] == pytest.approx(metrics["reconstruction_error"] / metrics["copy_error"])
    assert 1 <= metrics["perplexity"] <= 4 and metrics["perplexity/position-0"] == metrics["perplexity"]
    assert metrics["dead_share"] in (0, 0.25, 0.5, 0.75)
    with torch.no_grad():
        output = engine.model.eval()(batch)
    latents, named = output.vectors.flatten(1), output.quantized.flatten(1)
    assert metrics["latent_std"] == pytest.approx(float(latents.var(0, correction=0).mean().sqrt()), rel=1e-4)
    squares = (latents - named).square().sum(1).mean() / latents.var(0, correction=0).sum()
    assert metrics["quantization_error"] == pytest.approx(float(squares), rel=1e-4)
    assert engine.model.quantizer.pending_usage.sum() == 0  # type: ignore[union-attr, operator]


def test_a_codebook_that_stays_collapsed_ends_the_run_in_words() -> None:
    task = LaqTask(laq_config(health=HealthConfig(patience=2)))
    bad, good = {"perplexity": 1.1}, {"perplexity": 3.0}
    assert task.should_stop(bad) is task.should_stop(good) is task.should_stop(bad) is None
    with pytest.raises(CodebookCollapsed, match="on_collapse=warn"):
        task.should_stop(bad)


def test_positions_that_always_say_the_same_count_as_collapse() -> None:
    task = LaqTask(laq_config(health=HealthConfig(patience=1)))
    assert task.should_stop({"perplexity": 2.0, "joint_perplexity": 2.5}) is None
    with pytest.raises(CodebookCollapsed, match=r"2\.00 of 4 codes and 1\.00 latent actions"):
        task.should_stop({"perplexity": 2.0, "joint_perplexity": 1.0})


@pytest.mark.parametrize(
    ("quantizer", "metrics", "advice"),
    [
        (None, {"copy_error": 1e-6}, r"raise laq\.window_seconds \(now 0\.6\)"),
        (NsvqConfig(initialization="normal", revival=PublishedRevivalConfig()), {"quantization_error": 300.0},
         r"300 times their variance.*initialization=data, and laq\.model\.quantizer\.revival\.every=100"),
        (VqEmaConfig(revival=None), {}, r"Nothing restarts unused codes: set laq\.model\.quantizer\.revival\.every"),
        (None, {"quantization_error": 9.0}, r"revival\.every=2"),
        (FsqConfig(), {}, "gives nearly the same latents to every pair"),
    ],
    ids=["still videos", "far codebook", "no revival", "slow revival", "no cause"],
)  # fmt: skip
def test_the_reason_to_stop_names_the_likeliest_cause_and_the_setting_to_change(
    quantizer: QuantizerConfig | None, metrics: dict[str, float], advice: str
) -> None:
    task = LaqTask(laq_config(quantizer, health=HealthConfig(patience=1)))
    with pytest.raises(CodebookCollapsed, match=advice):
        task.should_stop({"perplexity": 1.0, "joint_perplexity": 1.0, "copy_error": 0.01, **metrics})


def test_patience_with_a_collapsed_codebook_outlives_a_restart() -> None:
    config = laq_config(health=HealthConfig(patience=2))
    before, after = LaqTask(config), LaqTask(config)
    before.should_stop({"perplexity": 1.1})
    after.restore(json.loads(json.dumps(before.state())))
    with pytest.raises(CodebookCollapsed, match="2 validations in a row"):
        after.should_stop({"perplexity": 1.1})


def test_a_collapsed_codebook_only_warns_when_told_to(caplog: pytest.LogCaptureFixture) -> None:
    task = LaqTask(laq_config(health=HealthConfig(patience=1, on_collapse="warn")))
    assert task.should_stop({"perplexity": 1.0}) is None
    assert not task.state()["repair_is_due"]
    assert "Nearly every change gets the same name" in caplog.text


def test_training_stops_once_the_codes_mean_motion() -> None:
    task = LaqTask(laq_config(gate=ProbeGate(min_r2=0.6, min_joint_perplexity=3)))
    metrics = {"perplexity": 4.0, "joint_perplexity": 4.0, "probe_r2/additive": 0.5, "probe_r2/joint": 0.7}
    assert task.should_stop(metrics) == (
        "the codes explain 70% of the true motion (gate 60%) and 4.0 latent actions are in use (gate 3)"
    )
    assert task.should_stop(metrics | {"probe_r2/joint": 0.55}) is None
    assert task.should_stop(metrics | {"joint_perplexity": 2.0}) is None
    assert task.should_stop({"perplexity": 4.0, "joint_perplexity": 4.0}) is None


def test_labelled_episodes_give_a_probe_score(tmp_path: Path) -> None:
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=2, image_size=24))
    config = laq_config()
    engine, task = engine_of(config), LaqTask(config, probe=dataset)
    metrics = validate(task, engine)
    assert {"probe_r2/additive", "probe_r2/joint", "probe_r2/shuffled"} <= metrics.keys()
    assert any("robot's true motion" in message for message in task.verdicts(metrics))


def test_a_saved_model_folder_loads(tmp_path: Path) -> None:
    config = laq_config()
    engine, task = engine_of(config), LaqTask(config)
    train(task, engine, 2)
    task.save(tmp_path, engine.full_state())
    batch, _ = moving_blocks(16, seed=5)
    loaded = load_latent_action_model(str(tmp_path)).encode(batch.pair)
    assert torch.equal(loaded.codes, engine.model.eval().encode(batch.pair).codes)  # type: ignore[operator]


def test_ranks_under_zero_3_share_one_codebook_and_one_count(tmp_path: Path) -> None:
    run_ranks(Path(__file__).parent / "check_laq_ranks.py", [str(tmp_path)])
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["usage_before_revival"] == 8 * 16  # of the global batches of steps 2 to 9
    assert ranks[0]["revived"] == 3


def test_ranks_that_start_from_a_collapsed_codebook_recover_with_one_codebook(tmp_path: Path) -> None:
    run_ranks(Path(__file__).parent / "check_collapsed_ranks.py", [str(tmp_path)])
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]  # after every step
    assert ranks[0]["revived"] >= 3
    start, end = ranks[0]["perplexities"]
    assert start == 1 and end > 2
