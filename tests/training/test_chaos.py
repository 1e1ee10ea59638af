"""Ranks of a run are killed, or asked to go, again and again: it ends with the losses of a run that nobody disturbed.

LAPA_TEST_CHAOS_MINUTES says for how long, roughly: it sets the number of blows, at four a minute. 2 when not given; the
long form is LAPA_TEST_CHAOS_MINUTES=30. LAPA_TEST_CHAOS_SEED draws other blows.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lapa.models.storage import model_digest
from tests.distributed import rank_environment, run_ranks
from tests.training.toy import read_losses
from tests.training.train_toy import Blow

SCRIPT = Path(__file__).parent / "train_toy.py"
MINUTES = float(os.environ.get("LAPA_TEST_CHAOS_MINUTES", "2"))
SEED = int(os.environ.get("LAPA_TEST_CHAOS_SEED", "0"))
BLOWS = max(2, round(4 * MINUTES))
STEPS_PER_BLOW = 5
"""More than the steps between two checkpoints, so that a run that is struck again and again gets on."""
RANKS = 2


def some_blows(seed: int) -> list[Blow]:
    """One in every few steps; of a random kind, to a random rank, a random moment after the step."""
    chance = random.Random(seed)
    return [
        Blow(
            step=number * STEPS_PER_BLOW + chance.randint(1, STEPS_PER_BLOW),
            rank=chance.randrange(RANKS),
            signal=chance.choice([signal.SIGKILL, signal.SIGTERM]),
            delay_seconds=chance.uniform(0, 0.1),
        )
        for number in range(BLOWS)
    ]


@pytest.mark.slow
def test_blows_at_random_moments_change_neither_the_losses_nor_the_model(tmp_path: Path) -> None:
    whole, struck = tmp_path / "whole", tmp_path / "struck"
    whole.mkdir()
    struck.mkdir()
    steps = (BLOWS + 1) * STEPS_PER_BLOW
    run_ranks(SCRIPT, ["3", str(whole), str(steps)], nproc=RANKS)

    blows = some_blows(SEED)
    (struck / "blows.json").write_text(json.dumps(blows))
    command = [sys.executable, "-m", "lapa.launch", "--standalone", "--nproc-per-node", str(RANKS)]
    # Several blows may fall into one start, never a restart without one.
    command += ["--max-restarts", str(BLOWS), "--monitor-interval", "0.2", str(SCRIPT), "3", str(struck), str(steps)]
    finished = subprocess.run(
        [*command, "--blows", str(struck / "blows.json")],
        env=rank_environment(), capture_output=True, text=True, timeout=600 + 120 * BLOWS,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(list(struck.glob("blow-*"))) == BLOWS, "every blow fell"

    for rank in range(RANKS):
        expected, losses = read_losses(whole / f"losses-{rank}.jsonl"), read_losses(struck / f"losses-{rank}.jsonl")
        assert losses == expected
        repeated = [json.loads(line) for line in (struck / f"losses-{rank}.jsonl").read_text().splitlines()]
        assert all(loss == expected[step] for step, loss, _ in repeated), "also what was lost and done again"
    final = f"checkpoints/step-{steps:08d}/model"
    assert model_digest(str(struck / final)) == model_digest(str(whole / final))
