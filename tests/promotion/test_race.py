"""Two processes promote different versions at the same moment, again and again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import MlflowServer

from lapa.tracking.ledger import PRODUCTION, read_ledger
from lapa.tracking.registry import POLICY_MODEL, Registry
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

ROUNDS = 4
FEW_ROUNDS = 2
"""On SQLite, where each takes seconds."""
CONTEND = Path(__file__).with_name("contend.py")


def race(uri: str, folder: Path, rounds: int) -> None:
    """Let two processes contend; of every round one must win, and the aliases must say what the ledger says."""
    registry = Registry(uri, wait_seconds=600)
    for version in (1, 2):
        registry.register(POLICY_MODEL, "s3://bucket/policy", digest=f"d{version}", inputs={}, verify=lambda url: None)
    folder.mkdir()
    repository = CONTEND.parents[2]
    contenders = [
        subprocess.Popen(
            [sys.executable, str(CONTEND), uri, who, str(version), str(rounds), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=repository,
            env=os.environ | {"PYTHONPATH": str(repository)},
        )
        for who, version in (("ada", 1), ("bob", 2))
    ]
    said = [contender.communicate(timeout=3000)[0].split() for contender in contenders]
    assert [contender.returncode for contender in contenders] == [0, 0]
    assert [sorted(both) for both in zip(*said, strict=True)] == [["lost", "won"]] * rounds
    ledger = read_ledger(registry, POLICY_MODEL)
    assert [entry.decision.who for entry in ledger] == ["ada" if ada == "won" else "bob" for ada in said[0]]
    assert all(entry.is_applied for entry in ledger)
    assert registry.aliases(POLICY_MODEL)[PRODUCTION] == ledger[-1].decision.version


def test_of_two_processes_on_one_store_exactly_one_wins_each_time(work: Path):  # noqa: F811
    race(f"sqlite:///{work / 'mlflow.db'}", work / "race", FEW_ROUNDS)


@pytest.fixture
def server(tmp_path: Path, template_store: Path) -> Iterator[MlflowServer]:  # noqa: F811
    shutil.copyfile(template_store, tmp_path / "mlflow.db")
    server = MlflowServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_of_two_processes_on_a_real_server_exactly_one_wins_each_time(server: MlflowServer, tmp_path: Path):
    race(server.uri, tmp_path / "race", ROUNDS)
