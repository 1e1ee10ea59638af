"""The benchmark as a newcomer runs it: killed in its middle, gone on with, and its table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

METHODS = ("scratch", "vpt", "lapa", "action-vla", "action-vla-zero", "shuffled", "floor")
pytestmark = pytest.mark.slow


def bench(repository: Path, work: Path, *words: str, log: Path) -> subprocess.Popen[bytes]:
    """`lapactl bench tabletop --size tiny …`, what it says in a file."""
    command = [sys.executable, "-c", "from lapactl.main import app; app()", "bench", "tabletop", "--size", "tiny"]
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{repository / 'cli'}"}
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*command, "--work", str(work), *words], cwd=repository, env=environment, stdout=sink, stderr=sink
        )


def results(work: Path) -> dict[str, float]:
    """When each stage's result was written."""
    return {path.parent.name: path.stat().st_mtime for path in work.glob("*/result.json")}


def test_the_tiny_study_survives_being_killed_and_writes_its_table(repository: Path, tmp_path: Path):
    work, log = tmp_path / "work", tmp_path / "log"
    words = ("--setting", "in-domain", *(word for name in METHODS for word in ("--method", name)))
    first = bench(repository, work, *words, log=log)
    deadline = time.monotonic() + 900
    while len(results(work)) < 3 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.5)
    assert first.poll() is None, log.read_text()
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = results(work)

    second = bench(repository, work, *words, log=log)
    assert second.wait(timeout=3000) == 0, log.read_text()
    after = results(work)
    assert before.items() <= after.items(), "what was made before the kill is not made again"

    table = json.loads((work / "results" / "tabletop-tiny.json").read_text())
    evaluated = [cell for cell in table["cells"] if cell["split"] == "all"]
    assert {cell["method"] for cell in evaluated} == set(METHODS) - {"floor"}
    assert {cell["episodes"] for cell in evaluated} == {96}
    assert table["failures"] == []
    assert {item["method"] for item in table["codes"]} == {"vpt", "lapa"}
    lapa = next(item for item in table["codes"] if item["method"] == "lapa")
    assert lapa["floor"] > 0
    made = {name.split("-")[0] for name in after}
    assert made == {"ingest", "laq", "label", "pretrain", "finetune", "evaluate"}
    assert len([name for name in after if name.startswith("laq-")]) == 3, "vpt, lapa and shuffled together, floor"
    assert "<svg" in (work / "results" / "tabletop-tiny.html").read_text()

    moved = work.rename(tmp_path / "moved")
    assert bench(repository, moved, *words, "--table-only", log=log).wait(timeout=600) == 0, log.read_text()
    again = json.loads((moved / "results" / "tabletop-tiny.json").read_text())
    assert {name: again[name] for name in ("cells", "codes", "arms")} == {
        name: table[name] for name in ("cells", "codes", "arms")
    }, "a study's table can be made again wherever its folder lies"
