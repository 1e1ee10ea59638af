"""A bundle's recorded observations: answered as at export, or the policy is not served."""

import numpy as np
import pytest

from lapa.config.vla import FlowHead, L1Head
from lapa.errors import PolicyError
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle, load_bundle
from lapa.policy.manifest import RECORDED_FILE, write_manifest
from lapa.policy.recorded import read_recorded, replay
from tests.models.vla.models import seeded, small_convolutional, spec_of
from tests.policy.test_bundle import some_observations


@pytest.fixture(params=[L1Head(horizon=2), FlowHead(horizon=2, width=32)], ids=lambda head: head.kind)
def bundle(request, tmp_path):
    model = seeded(spec_of(small_convolutional(), request.param, latent=False, frame_size=24))
    save_vla(tmp_path / "model", model)
    seen = list(zip(some_observations(), ["push", "go", "reach the star"], strict=True))
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={}, observations=seen)
    return tmp_path / "bundle"


def test_the_same_policy_answers_as_it_did(bundle):
    recorded = read_recorded(str(bundle))
    assert recorded.instructions == ("push", "go", "reach the star")
    assert replay(load_bundle(str(bundle), device="cpu", seed=5), recorded) == 0


def test_other_weights_are_found_out(bundle):
    policy = load_bundle(str(bundle), device="cpu")
    for parameter in policy.model.action_head.parameters():
        parameter.data.add_(0.5)
    with pytest.raises(PolicyError, match="of the actions differ from those at export"):
        replay(policy, read_recorded(str(bundle)))


def test_an_altered_recording_is_found_out(bundle):
    data = bytearray((bundle / RECORDED_FILE).read_bytes())
    data[-1] ^= 1
    (bundle / RECORDED_FILE).write_bytes(bytes(data))
    with pytest.raises(PolicyError, match="was altered"):
        read_recorded(str(bundle))


def test_a_bundle_without_a_recording_has_none(bundle):
    (bundle / RECORDED_FILE).unlink()
    write_manifest(bundle)
    assert read_recorded(str(bundle)) is None and np.isfinite(load_bundle(str(bundle)).low).all()
