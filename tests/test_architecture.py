"""The layers hold, and what must answer at once loads nothing heavy."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "deepspeed", "transformers", "peft", "mlflow", "cv2", "av", "pyarrow")
PATHS = "import sys; sys.path[:0] = ['.', 'cli', 'k8s']"


def loaded_by(statement: str, repository: Path) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"{PATHS}\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_imports_point_down(repository: Path):
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import lapactl.main",
        "import lapa.config.load",
        "import lapa.config.presets",
        "import lapa.errors, lapa.files",
    ],
)
def test_the_command_and_the_configuration_load_nothing_heavy(statement: str, repository: Path):
    assert not loaded_by(statement, repository).intersection(HEAVY)


def test_planning_a_run_loads_no_torch(repository: Path):
    statement = "from lapa.config.load import load_run\nfrom lapa.stages.plan import plan\nplan(load_run('tabletop'))"
    assert not loaded_by(statement, repository).intersection({"torch", "deepspeed", "transformers", "mlflow"})


def test_the_data_layer_reads_datasets_without_torch(repository: Path):
    statement = "import lapa.data.dataset, lapa.data.windows, lapa.data.splits, lapa.data.video, lapa.data.ingest"
    assert not loaded_by(statement, repository).intersection({"torch", "deepspeed", "transformers"})


def test_tracking_loads_mlflow_only_when_used(repository: Path):
    assert not loaded_by("import lapa.tracking.registry", repository).intersection({"torch", "mlflow"})


def test_help_answers_at_once(repository: Path):
    """0.3 s on an idle machine; CPU time, so that a busy one does not fail it, and generous for slow ones. The first
    start compiles and does not count; of some starts one has to do, since neighbours make caches slow."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path[:0] = ['.', 'cli', 'k8s']\nfrom lapactl.main import app; app(['--help'])",
    ]
    subprocess.run(command, cwd=repository, stdout=subprocess.DEVNULL, check=True)
    took = []
    while len(took) < 5 and not (took and took[-1] < 1.0):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=repository, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert took[-1] < 1.0, took
