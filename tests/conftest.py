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
# A developer's own settings must not decide what a test sees.
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "LAPA_PROGRESS_FILE"):
    os.environ.pop(name, None)

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

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
