"""Action supervision, augmentation, and a decoder without codes, in training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lapa.config.latent_action import NsvqConfig, PixelTarget, RevivalConfig, WithheldConfig
from lapa.config.stages import ActionSupervision, FrameAugmentation, LaqConfig
from lapa.config.training import TorchEngineConfig
from lapa.data.dataset import Dataset
from lapa.data.motion import MotionStatistics, motion_statistics
from lapa.data.splits import is_chosen
from lapa.errors import ConfigError, DataError
from lapa.models.latent_action.model import LatentActionModel, build_latent_action_model, load_latent_action_model
from lapa.models.latent_action.supervision import MotionHead
from lapa.stages.labellers import load_labeller
from lapa.stages.laq import with_motion_head
from lapa.tracking.tracker import NullTracker
from lapa.training.fit import accumulate
from lapa.training.tasks.laq import LaqTask
from lapa.training.torch_engine import TorchEngine
from lapa.types.batches import Batch
from tests.builders import make_dataset
from tests.distributed import run_ranks
from tests.training.laq import MOVES, laq_config, moving_blocks
from tests.training.toy import write_state

MOTION = MotionStatistics(mean=np.zeros(2, np.float32), std=np.full(2, 2.0, np.float32), share=0.5)


def supervised(*, weight: float = 0.02, **fields: object) -> LaqConfig:
    config = laq_config(NsvqConfig(codebook_size=4, width=4, revival=RevivalConfig(every=10)))
    return config.model_copy(update={"supervision": ActionSupervision(share=0.5, weight=weight), **fields})


def engine_of(config: LaqConfig) -> TorchEngine:
    motion = MOTION if config.supervision else None
    return TorchEngine(
        lambda: with_motion_head(build_latent_action_model(config.model), motion),
        TorchEngineConfig(device="cpu"),
        config.fit,
        seed=0,
    )


def blocks_with_motion(pairs: int, seed: int) -> Batch:
    """Every other pair tells its motion."""
    batch, moves = moving_blocks(pairs, seed)
    motion = torch.from_numpy(MOVES[moves]).float()
    motion[1::2] = torch.nan
    return replace(batch, motion=motion)


def train(config: LaqConfig, steps: int) -> tuple[TorchEngine, LaqTask, list[dict[str, float]]]:
    engine, task, losses = engine_of(config), LaqTask(config, tracker=NullTracker()), []
    for step in range(steps):
        torch.manual_seed(step)
        step_losses = accumulate(task, engine, blocks_with_motion(16, seed=step), None, seed=step)
        losses.append({name: float(value) for name, value in step_losses.items()})
        engine.update()
        task.after_update(engine)
    return engine, task, losses


def test_supervised_latents_come_to_predict_the_motion_of_unlabelled_pairs() -> None:
    engine, _, losses = train(supervised(), 150)
    assert losses[-1]["motion"] < 0.5 * losses[0]["motion"]
    assert losses[0]["total"] == pytest.approx(losses[0]["reconstruction"] + 0.02 * losses[0]["motion"], rel=1e-5)
    model = engine.model.eval()
    batch, moves = moving_blocks(64, seed=1000)
    with torch.no_grad():
        predicted = 2 * model(batch).motion.numpy()
    errors = np.square(predicted - MOVES[moves]).sum() / np.square(MOVES[moves]).sum()
    assert errors < 0.6


def test_gradients_of_the_motion_reach_the_encoder() -> None:
    config = supervised()
    model = engine_of(config).model
    assert isinstance(model, LatentActionModel) and model.motion_head is not None
    batch = blocks_with_motion(8, seed=0)
    assert batch.motion is not None
    model.motion_head.loss(model(batch).motion, batch.motion).backward()
    encoder = model.dynamics.inverse_dynamics.to_latents.weight  # type: ignore[attr-defined]
    assert encoder.grad.abs().sum() > 0


def test_every_told_pair_weighs_the_same_however_batches_are_cut() -> None:
    torch.manual_seed(0)
    head = MotionHead(4, mean=torch.ones(2), std=torch.full((2,), 2.0), told_share=0.25)
    predicted, motion = torch.randn(8, 2), torch.randn(8, 2)
    motion[2:6] = torch.nan
    whole = head.loss(predicted, motion)
    pieces = [head.loss(predicted[rows], motion[rows]) * len(rows) / 8 for rows in torch.arange(8).split(2)]
    torch.testing.assert_close(torch.stack(pieces).sum(), whole)
    told = ((predicted - (motion - 1) / 2) ** 2).mean(1)[[0, 1, 6, 7]]
    torch.testing.assert_close(whole, told.sum() / (8 * 0.25))


def test_a_batch_that_tells_no_motion_gives_the_head_a_gradient_of_zero() -> None:
    model = engine_of(supervised()).model
    assert isinstance(model, LatentActionModel) and model.motion_head is not None
    batch = replace(moving_blocks(8, seed=0)[0], motion=torch.full((8, 2), torch.nan))
    assert batch.motion is not None
    model.motion_head.loss(model(batch).motion, batch.motion).backward()
    gradient = model.motion_head.to_motion.weight.grad
    assert gradient is not None and gradient.abs().sum() == 0


def test_the_exported_model_has_no_motion_head_and_labels_the_same(tmp_path: Path) -> None:
    engine, task, _ = train(supervised(), 3)
    task.save(tmp_path, engine.full_state())
    batch, _ = moving_blocks(16, seed=5)
    loaded = load_latent_action_model(str(tmp_path))
    assert loaded.motion_head is None
    assert torch.equal(loaded.encode(batch.pair).codes, engine.model.eval().encode(batch.pair).codes)  # type: ignore[operator]


def test_the_training_state_keeps_the_motion_head(tmp_path: Path) -> None:
    engine, _, _ = train(supervised(), 3)
    write_state(engine, tmp_path)
    fresh = engine_of(supervised())
    fresh.load_training_state(tmp_path)
    kept, restored = engine.model.state_dict(), fresh.model.state_dict()
    assert "motion_head.mean" in kept
    assert all(torch.equal(kept[name], restored[name]) for name in kept)
    name = "motion_head.to_motion.weight"
    assert torch.equal(engine.read("exp_avg", name), fresh.read("exp_avg", name))


def test_a_motion_head_leaves_the_model_s_first_weights_alone() -> None:
    with_head, without = engine_of(supervised()).model.state_dict(), engine_of(laq_config()).model.state_dict()
    assert all(torch.equal(with_head[name], value) for name, value in without.items())


def test_motion_is_measured_on_the_chosen_training_episodes(tmp_path: Path) -> None:
    """The action at t is (episode, t, 0) plus noise below 0.1."""
    dataset = Dataset.open(make_dataset(tmp_path, episodes=8, frames=12))
    found = motion_statistics(dataset, window_seconds=0.2, share=0.5, validation_share=0.0)
    rows = [row for row in range(8) if is_chosen("motion", f"episode-{row:04d}", 0.5)]
    assert 0 < len(rows) < 8
    assert found.share == len(rows) / 8
    np.testing.assert_allclose(found.mean, [float(np.mean(rows)), 5.0, 0.0], atol=0.1)
    np.testing.assert_allclose(found.std[:2], [float(np.std(rows)), float(np.std(np.arange(10)))], atol=0.1)


def test_too_small_a_share_of_labelled_episodes_is_told(tmp_path: Path) -> None:
    dataset = Dataset.open(make_dataset(tmp_path, episodes=2, frames=12))
    with pytest.raises(DataError, match=r"share=1e-06 .* raise laq.supervision.share"):
        motion_statistics(dataset, window_seconds=0.2, share=1e-6, validation_share=0.0)


def test_supervising_a_decoder_without_codes_is_refused() -> None:
    withheld = laq_config(WithheldConfig()).model_dump()
    with pytest.raises(ValidationError, match="supervision teaches the codes"):
        LaqConfig.model_validate(withheld | {"supervision": {}})


def test_augmentation_trains_on_other_frames_and_validates_on_the_frames_as_they_are() -> None:
    plain = laq_config()
    changed = plain.model_copy(update={"augmentation": FrameAugmentation(shift=0.1, brightness=0.3)})
    (engine, task, plain_losses), (other, other_task, changed_losses) = train(plain, 1), train(changed, 1)
    assert plain_losses[0]["total"] != changed_losses[0]["total"]
    for name, value in engine.model.state_dict().items():
        other.model.state_dict()[name].copy_(value)
    batch, _ = moving_blocks(32, seed=9)
    found = []
    for trained, trainer in ((engine, task), (other, other_task)):
        trained.model.eval()
        with torch.no_grad():
            found.append(trainer.validate(trained, [batch]))
    assert found[0] == found[1]


def test_codes_survive_augmentation_and_a_motion_mask() -> None:
    model = laq_config().model.model_copy(update={"target": PixelTarget(residual=True, motion_mask=0.8)})
    config = laq_config().model_copy(
        update={"model": model, "augmentation": FrameAugmentation(shift=0.1, brightness=0.2)}
    )
    engine, _, _ = train(config, 350)
    batch, moves = moving_blocks(256, seed=2000)
    codes = engine.model.eval().encode(batch.pair).codes[:, 0].numpy()  # type: ignore[operator]
    majority = sum(np.bincount(moves[codes == code], minlength=4).max() for code in np.unique(codes))
    assert majority / len(moves) > 0.7


def test_a_decoder_without_codes_trains_and_validates_to_the_floor(tmp_path: Path) -> None:
    config = laq_config(WithheldConfig())
    dataset = Dataset.open(make_dataset(tmp_path / "robot", episodes=2, image_size=24))
    engine = engine_of(config)
    task = LaqTask(config, probe=dataset, tracker=NullTracker())
    for step in range(60):
        accumulate(task, engine, moving_blocks(16, seed=step)[0], None, seed=step)
        engine.update()
        task.after_update(engine)
    engine.model.eval()
    with torch.no_grad():
        metrics = task.validate(engine, [moving_blocks(64, seed=1000)[0]])
    assert 0.5 < metrics["relative_error"] < 1.0  # four moves, one guess
    assert not any(name.startswith(("perplexity", "probe_r2/additive")) for name in metrics)
    assert task.should_stop(metrics) is None
    assert task.verdicts(metrics)


def test_a_model_without_codes_is_refused_as_a_labeller(tmp_path: Path) -> None:
    config = laq_config(WithheldConfig())
    LaqTask(config).save(tmp_path, build_latent_action_model(config.model).state_dict())
    with pytest.raises(ConfigError, match="quantizer kind 'withheld': there are no codes to label with"):
        load_labeller(str(tmp_path), torch.device("cpu"))


def test_supervision_under_zero_3_gives_every_rank_one_model(tmp_path: Path) -> None:
    run_ranks(Path(__file__).parent / "check_supervised_ranks.py", [str(tmp_path)])
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    losses = ranks[0]["motion_loss"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert ranks[0]["names"] == ["motion_head.to_motion.bias", "motion_head.to_motion.weight"]
