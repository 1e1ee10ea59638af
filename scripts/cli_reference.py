#!/usr/bin/env python3
"""Write docs/reference-cli.md from the program itself, by Typer's own command for it.

Usage: scripts/cli_reference.py [--check]
With --check nothing is written, and the exit code is 1 where the page is not what the program says.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference-cli.md"
TITLE = "# `lapactl`\n"
INTRODUCTION = f"""{TITLE}
Every command and option, written by `make docs` from the program; do not edit. The guides show them in use:
[clusters](guide-cluster.md), [platforms](guide-platform.md), [latent actions](guide-latent-actions.md).

`lapactl --install-completion` sets up completion of commands and options for the shell it is called from (bash, zsh,
fish or PowerShell; `SHELL` must name it); a new shell has it. `--show-completion` prints what it would install.
"""


def reference() -> str:
    """The page as it should be."""
    # Where packages are not installed they are found as the tests find them; a width of the caller's is not taken.
    paths = [str(ROOT / "cli"), str(ROOT / "k8s"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}
    command = [sys.executable, "-m", "typer", "lapactl.main", "utils", "docs", "--name", "lapactl"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if not done.stdout.startswith(TITLE):
        raise SystemExit(f"typer printed something else than its page: {done.stdout[:200]}")
    return INTRODUCTION + done.stdout.removeprefix(TITLE).rstrip() + "\n"


def main() -> None:
    page = reference()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.is_file() or PAGE.read_text() != page:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} is not what the program says: run `make docs`")


if __name__ == "__main__":
    main()
