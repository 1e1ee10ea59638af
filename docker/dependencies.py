"""What the image installs, from pyproject.toml and requirements.lock.

`wanted EXTRA…` prints what the project and these extras ask for, as pip reads it: installed before the source is
copied, so that a change of the source leaves their layer alone. `check` fails when something is installed in another
version than the lock's.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

NOT_LOCKED = re.compile(r"pip$|(torch|triton)$|(nvidia|cuda)-")
"""The venv's own, and torch with the libraries of its build, whose one pin is the Makefile's."""


def wanted(extras: Iterable[str]) -> list[str]:
    """Raises KeyError for an extra that is not declared."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return project["dependencies"] + [item for extra in extras for item in project["optional-dependencies"][extra]]


def unlocked() -> list[str]:
    """Installed packages that the lock does not hold in their version."""
    lines = Path("requirements.lock").read_text().splitlines()
    locked = {line.split(" ;")[0] for line in lines}
    found = ((_normal(item.metadata["Name"]), item.version) for item in distributions())
    return sorted(f"{name}=={version}" for name, version in found
                  if not NOT_LOCKED.match(name) and f"{name}=={version}" not in locked)  # fmt: skip


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(verb: str, *extras: str) -> None:
    if verb == "wanted":
        sys.stdout.write("\n".join(wanted(extras)) + "\n")
    elif found := unlocked():
        sys.exit(f"Not in requirements.lock: {', '.join(found)}. Run `make lock` and build again.")


if __name__ == "__main__":
    main(*sys.argv[1:])
