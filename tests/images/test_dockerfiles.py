"""The Dockerfiles are clean, and what is sent to the build is small and holds nothing private."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from lapa_k8s.parts import Security
from lapa_k8s.rendering.paths import HOME, SCRATCH

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SOURCES = {
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "requirements.lock",
    "docker",
    "lapa",
    "cli",
    "k8s",
}
CONTEXT_BYTES = 5_000_000


def context(folder: Path) -> list[Path]:
    """Files that a build in this folder is sent, by the rules of the builder's own client."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in patterns if line and not line.startswith("#")]
    found = exclude_paths(str(folder), rules, dockerfile="docker/train.Dockerfile")
    return [folder / name for name in found if (folder / name).is_file()]


@pytest.fixture(scope="module")
def sent() -> list[Path]:
    return context(ROOT)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_has_no_finding(dockerfile):
    beside_python = Path(sys.executable).parent / "hadolint"
    program = str(beside_python) if beside_python.exists() else shutil.which("hadolint")
    assert program, "hadolint is missing: make setup"
    found = subprocess.run([program, str(dockerfile)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_context_is_small_and_holds_the_sources_alone(sent):
    assert {path.relative_to(ROOT).parts[0] for path in sent} - {".dockerignore"} == SOURCES
    assert sum(path.stat().st_size for path in sent) < CONTEXT_BYTES
    assert not [path for path in sent if path.suffix == ".pyc"]


def test_the_context_holds_every_file_of_the_packages(sent):
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    tracked = subprocess.run(
        ["git", "ls-files", *packages["packages"]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    present = {ROOT / name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert present <= set(sent)


def test_what_lies_about_in_a_checkout_is_not_sent(tmp_path):
    private = [
        ".env",
        ".git/config",
        ".venv/pip.conf",
        "work/model.safetensors",
        "data/a.mp4",
        "kubeconfig",
        "cli/token",
    ]
    for name in [*private, "lapa/errors.py", "cli/lapactl/main.py", "lapa/__pycache__/errors.cpython-311.pyc"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert {str(path.relative_to(tmp_path)) for path in context(tmp_path)} == {"lapa/errors.py", "cli/lapactl/main.py"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_torch_has_no_second_pin(dockerfile):
    assert not re.search(r"torch\s*==", dockerfile.read_text())


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_image_runs_as_the_user_and_in_the_folders_of_the_manifests(dockerfile):
    text = dockerfile.read_text()
    ids = Security()
    assert f"USER {ids.user}:{ids.group}\n" in text
    assert f"HOME={HOME} " in text and f"--group={ids.group} {SCRATCH}\n" in text
