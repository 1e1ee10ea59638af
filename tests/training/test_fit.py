"""The loop in one process."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from lapa.config.training import ConstantSchedule, CosineSchedule, DeepSpeedEngineConfig, TorchEngineConfig
from lapa.errors import RESTART_EXIT_CODE, CheckpointError, CheckpointMismatch, ConfigError, LossNotFinite
from lapa.models.storage import load_config, load_state, model_digest
from lapa.tracking.progress import PROGRESS_VARIABLE
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import build_engine
from lapa.training.fit import FitResult, fit
from lapa.training.hooks import Hook, ProgressHook
from lapa.training.schedules import learning_rate_share
from lapa.training.seeding import mix
from tests.distributed import rank_environment
from tests.training.toy import (
    BreaksAt,
    Losses,
    ToyModel,
    ToyTask,
    fit_config,
    global_batch,
    held_out,
    read_losses,
    stream,
)

SCRIPT = Path(__file__).parent / "train_toy.py"


def train(url: str, *, task: Any = None, hooks: tuple[Hook, ...] = (), noise: float = 0.1, **changes: Any) -> FitResult:
    config = fit_config(**changes)
    engine = build_engine(lambda: ToyModel(noise=noise), TorchEngineConfig(), config, seed=5)
    checkpoints = Checkpoints(url, config.keep_checkpoints, {"name": "toy"}, sleep=lambda seconds: None)
    return fit(task or ToyTask(), engine, stream(), held_out, config, checkpoints, hooks, seed=5)


def run_script(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args], env=rank_environment(), capture_output=True, text=True, timeout=900
    )


def test_resuming_after_kill_gives_the_losses_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert run_script("torch", str(whole), "10").returncode == 0
    assert run_script("torch", str(cut), "10", "--kill-at", "5").returncode == -9
    finished = run_script("torch", str(cut), "10")
    assert finished.returncode == 0, finished.stderr
    assert read_losses(cut / "losses-0.jsonl") == read_losses(whole / "losses-0.jsonl")
    final = "checkpoints/step-00000010/model"
    assert model_digest(str(cut / final)) == model_digest(str(whole / final))


def test_no_steps_at_all_keep_what_training_would_start_from(tmp_path: Path) -> None:
    hook = Losses()
    result = train(str(tmp_path), steps=0, hooks=(hook,))
    assert result.step == 0 and result.metrics and hook.values == {}
    engine = build_engine(lambda: ToyModel(noise=0.1), TorchEngineConfig(), fit_config(steps=0), seed=5)
    kept = load_state(str(tmp_path / "step-00000000/model"))
    assert all(torch.equal(kept[name], value) for name, value in engine.full_state().items())
    assert train(str(tmp_path), steps=0) == result
    assert train(str(tmp_path), steps=3).step == 3, "steps that are asked for later are made"


def test_sigterm_ends_in_a_saved_step_and_the_restart_code(tmp_path: Path) -> None:
    stopped = run_script("torch", str(tmp_path), "10", "--term-at", "4")
    assert stopped.returncode == RESTART_EXIT_CODE, stopped.stderr
    assert (tmp_path / "checkpoints/last").read_text().strip() == "step-00000004"
    assert run_script("torch", str(tmp_path), "10").returncode == 0
    assert list(read_losses(tmp_path / "losses-0.jsonl")) == list(range(1, 11))


def test_a_finished_run_is_not_trained_again_but_can_be_lengthened(tmp_path: Path) -> None:
    first = train(str(tmp_path))
    again = Losses()
    assert train(str(tmp_path), hooks=(again,)) == first
    assert again.values == {}
    assert train(str(tmp_path), hooks=(again,), steps=10).step == 10
    assert list(again.values) == [9, 10]


class Counting(ToyTask):
    """Stops at its third validation, whoever saw the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        self.seen += 1
        return "seen enough" if self.seen == 3 else None


def test_what_a_task_counts_goes_on_after_a_restart(tmp_path: Path) -> None:
    whole = train(str(tmp_path / "whole"), task=Counting(), steps=20, validate_every=2)
    train(str(tmp_path / "cut"), task=Counting(), steps=3, validate_every=2, checkpoint_every=1)
    # Its last step is validated too, so the second validation was the end of the first start.
    resumed = train(str(tmp_path / "cut"), task=Counting(), steps=20, validate_every=2)
    assert whole.stopped == resumed.stopped == "seen enough"
    assert (whole.step, resumed.step) == (6, 4)


def test_micro_batches_add_up_to_the_whole_batch(tmp_path: Path) -> None:
    whole, pieces = Losses(), Losses()
    train(str(tmp_path / "a"), hooks=(whole,))
    train(str(tmp_path / "b"), hooks=(pieces,), micro_batch_size=3)
    assert pieces.values == pytest.approx(whole.values, rel=1e-5)


def test_checkpoints_live_on_any_filesystem_and_old_ones_go(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/run"
    train(url, checkpoint_every=2, keep_checkpoints=2)
    checkpoints = Checkpoints(url, 2, {})
    assert checkpoints.latest() == f"{url}/step-00000008"
    assert set(load_state(f"{url}/step-00000006/model")) == set(ToyModel().state_dict())
    assert load_config(f"{url}/step-00000008/model", "vla") == {"width": 24}
    with pytest.raises(CheckpointMismatch, match="latent-action"):
        load_config(f"{url}/step-00000008/model", "latent-action")
    assert train(url, steps=9).step == 9


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path: Path) -> None:
    train(str(tmp_path), steps=6)
    (tmp_path / "step-00000006/manifest.json").unlink()
    losses = Losses()
    train(str(tmp_path), steps=7, hooks=(losses,))
    assert list(losses.values) == [4, 5, 6, 7]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    train(str(tmp_path), steps=6)
    damage(next((tmp_path / "step-00000006/training_state").glob("weights-*")))
    losses = Losses()
    train(str(tmp_path), steps=7, hooks=(losses,))
    assert list(losses.values) == [4, 5, 6, 7]


def test_only_damaged_checkpoints_stop_the_run_instead_of_starting_over(tmp_path: Path) -> None:
    train(str(tmp_path), steps=6)
    for name in ("step-00000003", "step-00000006"):
        damage(tmp_path / name / "model/model.safetensors")
    with pytest.raises(CheckpointError, match="All 2 checkpoints"):
        train(str(tmp_path), steps=7)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 0xFF
    path.write_bytes(data)


def test_a_checkpoint_of_another_model_is_refused_in_words(tmp_path: Path) -> None:
    class Wider(ToyModel):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.never = nn.Linear(3, 4)

    train(str(tmp_path))
    engine = build_engine(Wider, TorchEngineConfig(), fit_config(), seed=5)
    with pytest.raises(CheckpointMismatch, match=r"never.bias as \[3\], the run asks for \[4\]"):
        Checkpoints(str(tmp_path), 2, {}).restore(engine, ToyTask())


def test_storage_that_fails_for_a_moment_costs_nothing_and_one_that_stays_away_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError("away")] * 2)
    import lapa.files

    upload = lapa.files.upload

    def flaky(*args: Any, **options: Any) -> None:
        if error := next(failures, None):
            raise error
        upload(*args, **options)

    monkeypatch.setattr(lapa.files, "upload", flaky)
    assert train(f"memory://{tmp_path.name}/flaky", steps=3).step == 3

    def gone(*args: Any, **options: Any) -> None:
        raise OSError("away")

    monkeypatch.setattr(lapa.files, "upload", gone)
    with pytest.raises(CheckpointError, match="away"):
        train(f"memory://{tmp_path.name}/gone", steps=2)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run_before_anything_of_it_is_kept(
    tmp_path: Path, what: Literal["loss", "gradient"]
) -> None:
    class Validations(Hook):
        def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
            seen.append(step)

    seen: list[int] = []
    last = f"{tmp_path}/step-00000003"
    with pytest.raises(LossNotFinite, match=rf"in step 5, which was seen after step 6 .* {last}, is from before"):
        train(str(tmp_path), task=BreaksAt(4, what), hooks=(Validations(),), log_every=100, validate_every=6)
    assert Checkpoints(str(tmp_path), 2, {}).latest() == last
    assert not seen, "metrics of a broken model would hide what broke it"


def test_a_run_that_breaks_before_its_first_checkpoint_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match=r"in step 1, .* No checkpoint was saved before"):
        train(str(tmp_path), task=BreaksAt(0, "gradient"))


def test_the_task_can_stop_early_and_the_result_says_why(tmp_path: Path) -> None:
    result = train(str(tmp_path), task=ToyTask(stop_at=1e9))
    assert (result.step, result.stopped) == (4, "loss is low")
    assert train(str(tmp_path)) == result


def test_overwriting_rows_forgets_their_moments_only() -> None:
    engine = build_engine(ToyModel, TorchEngineConfig(), fit_config(), seed=5)
    engine.backward(engine.run(global_batch(0)))
    engine.update()
    before = engine.read("exp_avg", "words.weight")
    engine.overwrite_rows(engine.model.head.weight, torch.tensor([1, 4]), torch.full((2, 24), 2.0))
    after = engine.read("exp_avg", "words.weight")
    assert bool((engine.model.words.weight[[1, 4]] == 2).all())
    assert not after[[1, 4]].any()
    assert torch.equal(after[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_bf16_trains_and_keeps_fp32_weights(tmp_path: Path) -> None:
    losses, exact = Losses(), Losses()
    train(str(tmp_path / "bf16"), hooks=(losses,), precision="bf16")
    train(str(tmp_path / "fp32"), hooks=(exact,))
    state = load_state(str(tmp_path / "bf16/step-00000008/model"))
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert losses.values != exact.values
    assert losses.values == pytest.approx(exact.values, rel=0.1)


def test_progress_is_written_as_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "progress.jsonl"))
    train(str(tmp_path / "run"), hooks=(ProgressHook("laq"),), log_every=4)
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["phase"], line["step"], line["steps"]) for line in lines] == [
        ("laq", "train", 4, 8),
        ("laq", "train", 8, 8),
    ]
    assert lines[1]["rate"] > 0
    train(str(tmp_path / "run"), hooks=(ProgressHook("laq"),), log_every=4, steps=12)
    resumed = json.loads((tmp_path / "progress.jsonl").read_text().splitlines()[2])
    assert resumed["note"] == "goes on from step 8 of 12"


def test_warm_up_rises_to_the_full_rate_and_cosine_falls_to_its_share() -> None:
    warm = ConstantSchedule(warmup_steps=4)
    assert [learning_rate_share(warm, step, steps=10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = CosineSchedule(final_share=0.1)
    assert learning_rate_share(cosine, 0, steps=10) == 1.0
    assert learning_rate_share(cosine, 5, steps=10) == pytest.approx(0.55)
    assert learning_rate_share(cosine, 10, steps=10) == pytest.approx(0.1)


def test_seeds_differ_by_step_and_rank_and_never_change() -> None:
    assert len({mix(0, step, rank) for step in range(50) for rank in range(8)}) == 400
    assert mix(7, 3, 1) == 8332463156161827226


def test_the_torch_engine_refuses_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"engine\.kind=deepspeed"):
        build_engine(ToyModel, TorchEngineConfig(), fit_config(), seed=0)


def test_deepspeed_config_never_asks_for_compiled_optimizers() -> None:
    from lapa.training.deepspeed_setup import deepspeed_config

    settings = deepspeed_config(DeepSpeedEngineConfig(), fit_config(micro_batch_size=3), world_size=2, on_gpu=False)
    assert settings["zero_force_ds_cpu_optimizer"] is False
    assert (settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]) == (3, 2)
