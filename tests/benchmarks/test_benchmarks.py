"""Every benchmark runs at its smallest size, and gives the numbers that its goals are judged by."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed import rank_environment


def measured(repository: Path, tmp_path: Path, name: str, *options: str) -> dict[str, Any]:
    out = tmp_path / "result.json"
    command = [sys.executable, str(repository / "benchmarks" / name), *options, "--out", str(out)]
    done = subprocess.run(command, env=rank_environment(), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def within(ratios: list[float]) -> bool:
    """The time model's stated factor."""
    return all(1 / 2.5 < ratio < 2.5 for ratio in ratios)


@pytest.mark.slow
def test_the_speed_of_the_latent_action_model_is_measured(repository, tmp_path):
    for _ in range(3):  # again, where something else ran while the yardstick was measured
        found = measured(repository, tmp_path, "laq_speed.py", "--rounds", "1")["results"]
        ratios = [found[what]["predicted_over_measured"] for what in ("train", "label")]
        if all(found[what]["share_of_gemm"] < 1.5 for what in ("train", "label")) and within(ratios):
            break
    assert all(0 < found[what]["share_of_gemm"] < 1.5 for what in ("train", "label"))
    assert within(ratios), f"{ratios}: what `lapactl plan` predicts is further off than docs/guide-plan.md says"


@pytest.mark.slow
def test_labelling_decodes_every_frame_once(repository, tmp_path):
    found = measured(repository, tmp_path, "labelling.py", "--clips", "2", "--frames", "24", "--rounds", "1")
    assert found["decoded_per_frame"] == 1.0
    assert found["ratios"]["end_to_end_over_parts"] > 0
    assert set(found["overlap"]) == {"one_thread_ahead", "in_turn"}


@pytest.mark.slow
def test_the_trainer_is_measured_beside_the_bare_loop(repository, tmp_path):
    sizes = ["--width", "64", "--steps", "4", "--rounds", "1", "--modes", "torch,zero-3"]
    found = measured(repository, tmp_path, "trainer.py", *sizes)
    assert set(found["modes"]) == {"torch", "zero-3"}
    assert all(mode["overhead"] > 0 for mode in found["modes"].values())
    assert found["first_zero3_step_cpu_seconds"] > 0


@pytest.mark.slow
def test_the_memory_of_the_stream_is_measured(repository, tmp_path):
    found = measured(repository, tmp_path, "stream_memory.py", "--growth", "1,5", "--batches", "5")
    assert found["sizes"]["5"]["episodes"] == 5 * found["sizes"]["1"]["episodes"]
    assert found["peak_growth"] > 0


@pytest.mark.slow
def test_the_parts_of_a_servers_speed_are_measured(repository, tmp_path):
    sizes = ["--robots", "1", "--clients", "1", "--requests", "2", "--repeats", "1", "--rounds", "1"]
    for _ in range(5):  # again, where something else ran while one side was measured
        found = measured(
            repository, tmp_path, "serving.py", "--policy", "transformer", "--sides", "as-is,reread", *sizes
        )
        if found["inference"]["batch_1"]["reread_over_as-is"] > 1:
            break
    assert found["inference"]["batch_1"]["reread_over_as-is"] > 1, "keys and values are kept"
    assert [row["answers"] for row in found["servers"]["as-is"]] == [2]


@pytest.mark.slow
def test_padding_is_counted(repository, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(["a b", "a b c d e f g h"]))
    options = ["--image-tokens", "0", "--codes", "1", "--batch", "2", "--passes", "50", "--batches", "20"]
    found = measured(repository, tmp_path, "padding.py", str(tmp_path / "texts.json"), *options)
    # Of 16 and 22 positions: half of all pairs are of both, and waste six of forty-four.
    assert found["unsorted"] == pytest.approx(3 / 41, abs=0.015)
    assert found["waste"] < found["unsorted"] / 5
