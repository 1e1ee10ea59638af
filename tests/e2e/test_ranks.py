"""Stages on two ranks: ZeRO-3 over gloo follows plain torch step by step, from its checkpoints too."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.programs import RANKS, STEPS, ZERO3, copy_before, losses_of, made, result_of

TOLERANCE = 5e-5
"""Relative, of every step's loss. Only the order of sums differs: 9e-6 was measured in pretrain, 2e-7 in finetune and
laq. The first step of pretrain agrees to the last bit; Adam multiplies what comes after."""


# Finetuning under ZeRO-3 runs by default with a Hugging Face backbone: see test_ranks_huggingface.py.
@pytest.mark.parametrize("name", ["pretrain", pytest.param("finetune", marks=pytest.mark.slow)])
def test_two_zero3_ranks_follow_plain_torch(name: str, finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", name, store)
    result = made(work, name, *ZERO3, launcher=RANKS)
    assert losses_of(work, name) == pytest.approx(losses_of(finished_run, name), rel=TOLERANCE)
    assert result.metrics == pytest.approx(result_of(finished_run, name).metrics, rel=1e-3, abs=1e-3)


def test_two_ranks_give_the_same_labels(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "label", store)
    result = made(work, "label", launcher=RANKS)
    assert result.outputs["labels"].digest == result_of(finished_run, "label").outputs["labels"].digest


def test_two_zero3_ranks_go_on_from_a_plain_torch_checkpoint_of_a_latent_action_model(fresh_run: Path, tmp_path: Path):
    """VQ-EMA here; `tests/training/test_elastic.py` has NSVQ, and ranks that come and go."""
    settings = ("laq.model.quantizer.kind=vq_ema", "laq.fit.keep_checkpoints=9")
    made(fresh_run, "laq", *settings)
    work = tmp_path / "ranks"
    shutil.copytree(fresh_run, work)
    (folder,) = work.glob("laq-*/")
    (folder / "result.json").unlink()
    for checkpoint in folder.glob("checkpoints/step-*"):
        if checkpoint.name != "step-00000005":
            shutil.rmtree(checkpoint)

    made(work, "laq", *settings, *ZERO3, launcher=RANKS)
    alone, together = losses_of(fresh_run, "laq"), losses_of(work, "laq")
    assert list(together) == list(range(1, STEPS + 1))
    assert (folder / "checkpoints" / "step-00000020").exists(), "the ranks trained, and saved what they trained"
    assert together == pytest.approx(alone, rel=TOLERANCE)
