"""`compiled`: the same actions from a compiled backbone, and a server all the same where nothing can compile."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lapa.config.serving import ServingConfig
from lapa.models.vla.backbones.base import Backbone
from lapa.models.vla.backbones.convolutional import ConvolutionalBackbone
from lapa.serving.model import ServedModel, made_up_observation

PROGRAM = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from lapa.config.serving import ServingConfig
from lapa.serving.model import ServedModel, made_up_observation

def served(compiled):
    return ServedModel.load(ServingConfig(bundle=sys.argv[1], device="cpu", max_batch=4, compiled=compiled))

def answers(model, batch):
    return model.policy.propose([made_up_observation(model.policy)] * batch, ["push"] * batch)

def kernels():
    return len(list(Path(sys.argv[2]).rglob("*.so")))

as_it_is, compiled = served(False), served(True)
before = kernels()
with ThreadPoolExecutor(1) as another:  # as a server: loaded in one thread, asked in another
    answered = [another.submit(answers, compiled, size).result() for size in (1, 2, 3, 4)]
gaps = [float(np.abs(answer - answers(as_it_is, len(answer))).max()) for answer in answered]
print(json.dumps({"compiled": compiled.card["compiled"], "before": before, "after": kernels(), "gaps": gaps}))
"""


@pytest.mark.slow
def test_a_compiled_policy_answers_the_same_and_the_warm_up_covers_every_batch_size(bundle, tmp_path, repository):
    """In a process of its own: the shape checks of tests are no code that can be compiled."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", PROGRAM, str(bundle), str(tmp_path)]
    # From an empty folder: the first entry of its path is that one, and other packages' names must not lie there.
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["compiled"], ended.stderr[-3000:]
    assert 0 < found["before"] == found["after"], "compiled before a robot asks, and not while it waits"
    assert max(found["gaps"]) < 1e-4


def no_compiler(*_, **__):
    raise RuntimeError("No working C++ compiler found")


def compiled_at_the_first_call(module, **_):
    module._compiled_call_impl = no_compiler


@pytest.mark.parametrize("compiling", [no_compiler, compiled_at_the_first_call], ids=["at once", "in the first call"])
def test_without_a_compiler_the_policy_is_served_as_it_is_and_the_log_says_why(bundle, monkeypatch, caplog, compiling):
    monkeypatch.setattr(nn.Module, "compile", compiling)
    model = ServedModel.load(ServingConfig(bundle=str(bundle), device="cpu", compiled=True))
    assert not model.card["compiled"]
    assert np.isfinite(model.policy.propose([made_up_observation(model.policy)], ["push"])).all()
    assert "event=not_compiled error='RuntimeError: No working C++ compiler found'" in caplog.text
    assert "compiled=false" in caplog.text


def test_a_backbone_with_nothing_to_compile_is_served_as_it_is_and_the_process_stays_as_it_was(
    bundle, monkeypatch, caplog
):
    stances = []
    monkeypatch.setattr(torch.compiler, "set_stance", stances.append)
    monkeypatch.setattr(ConvolutionalBackbone, "compilable", Backbone.compilable)
    model = ServedModel.load(ServingConfig(bundle=str(bundle), device="cpu", compiled=True))
    assert not model.card["compiled"] and not stances
    assert "event=not_compiled error='nothing in ConvolutionalBackbone is known to compile'" in caplog.text
