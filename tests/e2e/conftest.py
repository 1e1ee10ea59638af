"""One tiny run, made once by its stage programs and shared by every test process; tests continue copies of it."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests.builders import make_dataset
from tests.e2e.programs import made, tiny_run, write_run


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this session see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def store(shared_folder: Path) -> Path:
    """An empty MLflow store: creating its schema takes seconds, copying the file takes none."""
    from lapa.tracking.mlflow_client import open_client

    store = shared_folder / "mlflow-template.db"
    with FileLock(shared_folder / "mlflow-template.lock"):
        if not store.exists():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "mlflow.db"
                open_client(f"sqlite:///{file}").search_experiments()
                shutil.copyfile(file, store)
    return store


@pytest.fixture(scope="session")
def datasets(shared_folder: Path) -> tuple[str, str]:
    """Videos without actions in five shards, and robot episodes."""
    folder = shared_folder / "e2e-datasets"
    with FileLock(shared_folder / "e2e-datasets.lock"):
        videos, robot = str(folder / "videos"), str(folder / "robot")
        if not (folder / "robot" / "dataset.json").exists():
            make_dataset(videos, episodes=10, actions=False, episodes_per_shard=2)
            make_dataset(robot, episodes=6, seed=1)
    return videos, robot


@pytest.fixture(scope="session")
def finished_run(shared_folder: Path, datasets: tuple[str, str], store: Path) -> Path:
    """Work folder of the tiny run: every stage from `laq` to `finetune`, uninterrupted, plain torch. Read only."""
    work = shared_folder / "e2e-run"
    with FileLock(shared_folder / "e2e-run.lock"):
        if not (work / "complete").exists():
            write_run(work, tiny_run(work, *datasets))
            shutil.copyfile(store, work / "mlflow.db")
            for name in ("laq", "label", "pretrain", "finetune"):
                made(work, name)
            (work / "complete").touch()
    return work


@pytest.fixture
def fresh_run(tmp_path: Path, datasets: tuple[str, str], store: Path) -> Path:
    """Work folder of the tiny run with nothing made."""
    work = tmp_path / "work"
    write_run(work, tiny_run(work, *datasets))
    shutil.copyfile(store, work / "mlflow.db")
    return work
