"""`lapactl deploy replay`, as a user types it."""

import numpy as np
import pytest
from typer.testing import CliRunner

from lapa.config.vla import L1Head
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.types.episodes import Observation
from lapactl.main import app
from tests.models.vla.models import seeded, small_convolutional, spec_of


@pytest.fixture
def bundle(tmp_path):
    """A bundle with three observations."""
    save_vla(tmp_path / "model", seeded(spec_of(small_convolutional(), L1Head(horizon=2), latent=False, frame_size=24)))
    random = np.random.default_rng(0)
    seen = [(Observation(image=random.integers(0, 256, (24, 24, 3), dtype=np.uint8)), "push") for _ in range(3)]
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={}, observations=seen)
    return tmp_path / "bundle"


def test_a_bundle_is_replayed_on_itself(bundle):
    done = CliRunner().invoke(app, ["deploy", "replay", str(bundle), str(bundle), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "3 observations of 3 episodes: 0.0% of the numbers differ by more than 1.0% of the range" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["gripper", "0", "0", "0.00%", "0.00%", "0.0%"] in rows, done.stdout


def test_what_is_no_recording_is_told(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["deploy", "replay", str(tmp_path / "empty"), str(bundle), "--device", "cpu"])
    assert done.exit_code == 3 and "holds no .tar: name the folder that" in done.stderr


def test_a_bundle_without_observations_says_how_to_get_some(bundle, tmp_path):
    export_bundle(tmp_path / "bare", str(tmp_path / "model"), lineage={}, resolved_run={})
    done = CliRunner().invoke(app, ["deploy", "replay", str(tmp_path / "bare"), str(bundle)])
    assert done.exit_code == 3 and done.stderr.startswith(f"error: the bundle {tmp_path / 'bare'} carries no recorded")
    assert "lapactl serve BUNDLE --record FOLDER" in done.stderr and done.stderr.count("\n") == 1, "one error"
