"""A bundle is tried out before anybody relies on it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lapa.config.vla import L1Head
from lapa.errors import PolicyError
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.policy.manifest import write_manifest
from lapa.policy.policy import Policy
from lapa.policy.recorded import record_answers, write_recorded
from lapa.policy.rehearsal import main, rehearse
from lapa.types.episodes import ActionChunk, Observation
from tests.models.vla.models import seeded, small_convolutional, spec_of

SPEC = spec_of(small_convolutional(), L1Head(horizon=2), latent=False, frame_size=24, proprioception_dims=2)


def test_a_fresh_process_says_how_fast_the_policy_answers(tmp_path: Path, repository: Path):
    save_vla(tmp_path / "model", seeded(SPEC))
    seen = Observation(image=np.zeros((24, 24, 3), np.uint8), proprioception=np.zeros(2, np.float32))
    model, bundle = str(tmp_path / "model"), tmp_path / "bundle"
    digest = export_bundle(bundle, model, lineage={}, resolved_run={}, observations=[(seen, "push")])
    command = [sys.executable, "-m", "lapa", "rehearse", "-", str(tmp_path / "bundle"), "10"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, check=True)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert (said["digest"], said["calls"], said["horizon"], said["action_dims"]) == (digest, 10, 2, 3)
    assert 0 < said["p50_milliseconds"] <= said["p99_milliseconds"]
    assert (said["replayed"], said["differing"]) == (1, 0)


def test_a_policy_that_answers_nonsense_does_not_pass():
    model = seeded(SPEC)
    with torch.no_grad():
        next(model.action_head.parameters()).fill_(float("nan"))
    with pytest.raises(PolicyError, match="stop the robot"):
        rehearse(Policy(model), 1)


def test_other_answers_than_at_export_do_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = seeded(SPEC)
    save_vla(tmp_path / "model", model)
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={})
    seen = Observation(image=np.zeros((24, 24, 3), np.uint8), proprioception=np.zeros(2, np.float32))
    there = record_answers(Policy(model), [seen], ["push"])
    write_recorded(tmp_path / "bundle", replace(there, actions=there.actions + 1))  # as another library would have it
    write_manifest(tmp_path / "bundle")
    with pytest.raises(PolicyError, match="100% of the actions differ from those at export"):
        main(None, [str(tmp_path / "bundle"), "1"])
    assert not capsys.readouterr().out


class Short(Policy):
    """Answers with fewer actions than its bundle says."""

    def act(self, observations, instructions):
        return [ActionChunk(actions=np.zeros((1, 3), np.float32)) for _ in observations]


def test_a_chunk_of_another_shape_is_refused():
    with pytest.raises(PolicyError, match=r"\(1, 3\).*\(2, 3\)"):
        rehearse(Short(seeded(SPEC)), 1)
