"""What every test shares: a quiet, offline, single-threaded process, and the sample data where it exists."""

import os

# Before anything imports torch, mlflow or transformers: they read these once.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MPLBACKEND": "Agg",
    }
)
# A developer's own settings, and what a CI service says of its terminal, must not decide what a test sees.
FOR_TESTS = (
    "LAPA_TEST_",
    "LAPA_WRITE_GOLDEN",
    "LAPA_UPDATE_GOLDEN",
    "LAPA_TRAIN_IMAGE",
    "LAPA_SERVE_IMAGE",
    "LAPA_BASE_IMAGE",
)
OF_TERMINALS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS")
for name in [*os.environ]:
    if name.startswith(("LAPA_", "MLFLOW_TRACKING_", "MLFLOW_RUN_ID", *OF_TERMINALS)) and not name.startswith(
        FOR_TESTS
    ):
        del os.environ[name]

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.load_profile("ci")  # the same examples each time, and no deadline that a busy machine would miss

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of sample videos and robot logs, beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder}")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that is being tested."""
    return REPOSITORY
