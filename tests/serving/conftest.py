"""Bundles that are served, and one server that most tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from policy_server import PATIENCE, Running, running
from websockets.sync.client import connect

from lapa.config.vla import L1Head
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.policy.policy import Policy
from lapa.types.episodes import Observation
from tests.models.vla.models import seeded, small_convolutional, spec_of

# Also of the public clients, which have no settings for them.
connect.__kwdefaults__ |= {"open_timeout": PATIENCE, "ping_timeout": PATIENCE}

HORIZON = 3
STATE = 2
SIDE = 24


def make_bundle(folder: Path, *, state: int = STATE, scale: float = 1.0) -> Path:
    """A policy that looks at a picture, an instruction and `state` numbers; `scale` stretches what it answers."""
    spec = spec_of(
        small_convolutional(), L1Head(horizon=HORIZON), latent=False, frame_size=SIDE, proprioception_dims=state
    )
    model = seeded(spec)
    assert model.action_head is not None
    for parameter in list(model.action_head.parameters())[-2:]:
        parameter.data.mul_(scale)
    save_vla(folder / "model", model)
    export_bundle(folder / "bundle", str(folder / "model"), lineage={}, resolved_run={})
    return folder / "bundle"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def shared_server(bundle) -> Iterator[Running]:
    with running(bundle, name="tiny", version="7", max_request_bytes=2**20, max_image_pixels=2**18) as server:
        yield server


@pytest.fixture
def server(shared_server) -> Running:
    """The shared server: leave it as it was."""
    return shared_server


@pytest.fixture
def policy(server) -> Policy:
    return server.service.model.policy


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture
def state() -> np.ndarray:
    return np.array([0.25, -0.5], dtype=np.float32)


@pytest.fixture
def expected(policy, frame, state) -> np.ndarray:
    """What the policy itself answers."""
    (chunk,) = policy.act([Observation(image=frame, proprioception=state)], ["push the star"])
    return chunk.actions
