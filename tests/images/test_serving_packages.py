"""A server needs the packages of extra `serve`, and none of training's."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TRAININGS_OWN = ("deepspeed", "mlflow", "gymnasium", "pymunk", "sklearn")

PROGRAM = """
import importlib, sys
import lapa.models.vla.backbones.huggingface, lapa.serving.recording_replay, lapa.serving.server
import lapactl.main, peft, s3fs, transformers
from lapa.models.vla.storage import load_vla
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is here: this test shows nothing")
"""


@pytest.mark.slow
def test_the_server_starts_with_the_packages_of_its_own_extra_alone(tmp_path):
    for found in needed(["serve"]):
        link(found, tmp_path)
    paths = [str(ROOT), str(ROOT / "cli"), str(ROOT / "k8s"), str(tmp_path)]
    start = f"import sys; sys.path[:0] = {paths!r}\n{PROGRAM}"
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")  # the venv's own would see all packages
    command = [str(base if base.exists() else sys.executable), "-I", "-S", "-c", start, *TRAININGS_OWN]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


def needed(extras: list[str]) -> list[Distribution]:
    """Installed distributions that the project and these extras ask for, and what those ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [item for extra in extras for item in project["optional-dependencies"][extra]]
    queue, found = [Requirement(item) for item in asked], {}
    while queue:
        requirement = queue.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        wanted = (name, tuple(sorted(requirement.extras)))
        if wanted in found:
            continue
        try:
            found[wanted] = distribution(name)
        except PackageNotFoundError:  # of another platform, or of another build of torch
            continue
        for item in map(Requirement, found[wanted].requires or []):
            contexts = [{"extra": extra} for extra in ("", *requirement.extras)]
            if item.marker is None or any(item.marker.evaluate(context) for context in contexts):
                queue.append(item)
    return list(found.values())


def link(found: Distribution, folder: Path) -> None:
    """Make a distribution importable from a folder, without a copy of it."""
    site = Path(str(found.locate_file("")))
    for top in {Path(str(file)).parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        if not (folder / top).exists() and (site / top).exists():
            (folder / top).symlink_to(site / top)
