"""DeepSpeed on two CPU ranks gives the torch engine's numbers, and continues its checkpoints."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lapa.config.training import TorchEngineConfig
from lapa.models.storage import load_state
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import build_engine
from lapa.training.fit import fit
from tests.distributed import rank_environment, run_ranks
from tests.training.check_ranks import SETTINGS, STEPS
from tests.training.toy import Losses, ToyModel, ToyTask, fit_config, held_out, read_losses, stream

IMPORT = """
import importlib
import sys
import torch
from lapa.training.deepspeed_setup import import_deepspeed

import_deepspeed(torch.device("cpu"))
importlib.import_module("deepspeed.runtime.zero.muon.original_muon")  # as building an engine does
print(sorted({"mlflow", "torch._inductor.compile_fx", "distutils.ccompiler"} & set(sys.modules)))
"""

HERE = Path(__file__).parent
BETWEEN = [pytest.param(stage, marks=pytest.mark.slow) for stage in (1, 2)]
"""They part more than 0 does, and less than 3."""


def train_with_torch(url: str) -> dict[int, float]:
    losses = Losses()
    config = fit_config(**SETTINGS)
    engine = build_engine(ToyModel, TorchEngineConfig(), config, seed=5)
    fit(ToyTask(), engine, stream(), held_out, config, Checkpoints(url, 5, {}), [losses], seed=5)
    return losses.values


@pytest.mark.parametrize("stage", [0, *BETWEEN, 3])
def test_two_ranks_follow_the_torch_engine_and_each_continues_the_other(tmp_path: Path, stage: int) -> None:
    torch_url = tmp_path / f"torch-for-zero{stage}"
    expected = train_with_torch(str(torch_url))
    whole = load_state(str(torch_url / f"step-{STEPS:08d}" / "model"))
    shutil.rmtree(torch_url / f"step-{STEPS:08d}")  # leaves step 5

    output = run_ranks(HERE / "check_ranks.py", [str(stage), str(tmp_path)])
    findings = json.loads((tmp_path / "findings.json").read_text())
    assert "FutureWarning" not in output, output

    def follows(losses: dict[str, float], from_step: int) -> None:
        wanted = {step: loss for step, loss in expected.items() if step >= from_step}
        assert {int(step): loss for step, loss in losses.items()} == pytest.approx(wanted, rel=1e-5)

    follows(findings["losses"], 1)
    follows(findings["from_torch"], 6)
    assert findings["keys"] == sorted(whole) and findings["tied"]

    broken, start = findings["broken"], findings["broken"]["start"]
    last = str(tmp_path / "broken" / f"step-{start + 3:08d}")
    assert f"in step {start + 4}, which was seen after step {start + 6} " in broken["message"]
    assert f"The last checkpoint, {last}, is from before" in broken["message"]
    assert broken["newest"] == last


@pytest.mark.parametrize("stage", [*BETWEEN, 3])
def test_two_killed_ranks_resume_with_the_losses_of_an_uninterrupted_run(tmp_path: Path, stage: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_ranks(HERE / "train_toy.py", [str(stage), str(whole), "7"])
    killed = subprocess.run(
        [*launch, str(HERE / "train_toy.py"), str(stage), str(cut), "7", "--kill-at", "5"],
        env=rank_environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert killed.returncode != 0
    run_ranks(HERE / "train_toy.py", [str(stage), str(cut), "7"])
    assert read_losses(cut / "losses-0.jsonl") == read_losses(whole / "losses-0.jsonl")


@pytest.mark.slow
def test_deepspeed_is_imported_without_mlflow_and_without_any_compiler(repository: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=repository, capture_output=True, text=True, check=False, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.splitlines()[-1] == "[]"
