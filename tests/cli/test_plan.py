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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ingest", "--gpu", "H100"), "choose laq, label, pretrain, finetune"),
        (("laq", "--gpu", "H100X"), "--gpu H100X: no such type is known"),
        (("laq", "--gpu", "H100", "--config", "tabletop"), "8 GPUs need an engine for several processes"),
        (("laq", "--gpu", "H100", "--nodes", "999"), "7992 GPUs share batches of "),
        (("finetune", "--gpu", "H100", "--set", "finetune=null", "--set", "evaluate=null"), "has no stage 'finetune'"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_a_model_is_counted(monkeypatch, words, said):
    monkeypatch.setattr("lapactl.library.ask_library", lambda *_, **__: pytest.fail("a model was counted"))
    done = CliRunner().invoke(app, ["plan", *words])
    assert done.exit_code == 2
    assert said in done.stderr


def test_help_needs_no_torch():
    code = "import sys; from lapactl.main import app; import lapactl.plan; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
