"""The files of every kind of registered model can be checked."""

from pathlib import Path

import pytest

from lapa.errors import CheckpointError
from lapa.models.storage import model_digest
from lapa.models.vla.storage import save_vla
from lapa.promotion.verify import verify_version
from lapa.tracking.registry import VLA_MODEL, ModelVersion, Registry
from tests.models.vla.models import seeded, small_convolutional, spec_of


@pytest.fixture
def version(registry: Registry, work: Path) -> ModelVersion:
    folder = work / "pretrained"
    save_vla(folder, seeded(spec_of(small_convolutional())))
    return registry.register(VLA_MODEL, str(folder), digest=model_digest(str(folder)), inputs={})


def test_a_model_is_what_was_registered_until_a_byte_of_it_changes(version: ModelVersion):
    assert set(verify_version(version)) == {"config.json", "model.safetensors"}
    weights = Path(version.url) / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="is not what lapa-vla/1 was registered with"):
        verify_version(version)


def test_files_that_are_gone_are_an_error(version: ModelVersion):
    (Path(version.url) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="are gone"):
        verify_version(version)
