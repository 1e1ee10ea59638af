"""`lapactl plan` at a terminal."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lapactl.main import app


def test_a_plan_says_memory_time_storage_and_cost():
    done = CliRunner().invoke(
        app, ["plan", "laq", "--config", "tabletop", "--gpu", "L4", "--gpus-per-node", "1", "--output", "json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["fits"] and told["memory"]["parameters"] > 0 and told["step"]["total"] > 0
    assert told["gpu_hours"] == pytest.approx(told["seconds"] / 3600)
    assert told["storage_bytes_per_second"] > 0


def test_a_stage_without_a_model_is_refused():
    done = CliRunner().invoke(app, ["plan", "ingest", "--gpu", "H100"])
    assert done.exit_code != 0
    assert "choose laq, label, pretrain, finetune" in done.output + done.stderr


def test_help_needs_no_torch():
    code = "import sys; from lapactl.main import app; import lapactl.plan; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
