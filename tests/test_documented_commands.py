"""Commands in the README and the guides exist, with the options they are shown with."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lapa.config.load import load_run
from lapa.config.presets import PRESETS
from lapa.config.stages import STAGES
from lapactl.main import app

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference-cli.md"  # made of the commands' own help
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path != REFERENCE),
]
GROUPS = ("config", "data", "models", "bench", "analyze", "jobs", "deploy")


def shown_commands() -> list[str]:
    """Every `lapactl …` line of a code block, without comments and prompts."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", document.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [match[1].split(" #")[0].strip() for line in lines if (match := re.search(r"(lapactl .*)", line))]
    return sorted(set(found))


@pytest.mark.parametrize("command", shown_commands())
def test_a_shown_command_exists_with_its_options(command):
    words = shlex.split(command)[1:]
    path = words[: 2 if words[0] in GROUPS else 1]
    help_text = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert help_text.exit_code == 0, help_text.output
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in help_text.output, f"{word} is no option of lapactl {' '.join(path)}"


def test_shown_presets_and_examples_load():
    for command in shown_commands():
        target = shlex.split(command)[2] if command.startswith("lapactl run ") else ""
        if target.startswith("examples/"):
            load_run(str(ROOT / target))
        elif target and not target.startswith("-") and not target.endswith(".yaml"):
            assert target in PRESETS or target in STAGES, command


def test_the_reference_says_what_the_commands_say():
    command = [sys.executable, str(ROOT / "scripts" / "cli_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown <= targets
