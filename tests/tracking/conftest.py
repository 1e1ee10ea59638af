"""One MLflow store, made once: creating its schema takes seconds, copying the file takes none."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lapa.tracking.mlflow_client import open_client

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    store = shared / "mlflow-template.db"
    with FileLock(shared / "mlflow-template.lock"):
        if not store.exists():
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / "mlflow.db"
                open_client(f"sqlite:///{made}").search_experiments()
                shutil.copyfile(made, store)
    return store


@pytest.fixture
def work(tmp_path: Path, template_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder with an empty embedded store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copyfile(template_store, folder / "mlflow.db")
    return folder
