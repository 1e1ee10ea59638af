"""`lapactl run` and `lapactl report`, as users type them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from lapa.policy.bundle import load_bundle
from lapa.policy.recorded import read_recorded, replay
from lapa.tracking.mlflow_client import open_client
from tests.distributed import rank_environment

SMALLER = (
    "videos.source.episodes=12", "robot.source.episodes=6", "evaluate.simulator.episodes=3",
    "evaluate.simulator.max_steps=10",
    *(f"{stage}.fit.{name}" for stage in ("laq", "pretrain", "finetune") for name in ("steps=4", "batch_size=16")),
    *(f"{stage}.fit.validate_every={every}" for stage, every in (("laq", 2), ("pretrain", 4), ("finetune", 4))),
)  # fmt: skip
"""The smoke preset, with less of everything that only costs time here."""


def lapactl(*arguments: object) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "from lapactl.main import app; app()",
            *map(str, arguments),
            *(f"--set={setting}" for setting in SMALLER),
        ],
        env=rank_environment(),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def test_the_smoke_run_makes_a_policy_with_its_success_numbers_and_a_report(store: Path, tmp_path: Path):
    work = tmp_path / "work"
    work.mkdir()
    shutil.copyfile(store, work / "mlflow.db")
    command = ("run", "tabletop-smoke", "--work", work)

    first = lapactl(*command)
    assert "closed-loop success" in first.stdout
    assert "scripted oracle reaches" in first.stdout
    assert "success_rate" in first.stdout
    assert "scratch" in first.stdout
    assert f"hint: read the report with `lapactl report {work / 'runs' / 'tabletop-smoke.yaml'}" in first.stderr

    results = {path: path.stat().st_mtime_ns for path in work.glob("*/result.json")}
    again: dict[str, Any] = json.loads(lapactl(*command, "--output", "json").stdout)
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/result.json")} == results, "nothing is made again"
    stages = again["stages"]
    assert all(item["was_skipped"] for item in stages)
    names = [(item["stage"], item["name"]) for item in stages]
    run = "tabletop-smoke"
    assert names == [
        *((stage, run) for stage in ("ingest", "laq", "label", "pretrain")),
        *((stage, arm) for stage in ("finetune", "evaluate") for arm in (run, "scratch")),
    ]
    by_name = dict(zip(names, stages, strict=True))
    for arm in (run, "scratch"):
        evaluation, finetune = by_name["evaluate", arm], by_name["finetune", arm]
        assert {"success_rate", "success_low", "success_high", "oracle_success_rate", "held_out/ratio"} <= set(
            evaluation["metrics"]
        )
        policy = finetune["outputs"]["policy"]
        assert evaluation["inputs"]["policy"] == policy
        recorded = read_recorded(policy["url"])
        assert recorded is not None and replay(load_bundle(policy["url"], device="cpu"), recorded) == 0
    assert by_name["pretrain", run]["inputs"]["labels"] == by_name["label", run]["outputs"]["labels"]

    [laq] = work.glob("laq-*/result.json")
    client = open_client(f"sqlite:///{work}/mlflow.db")
    run_id = json.loads(laq.read_text())["tracking"]["run_id"]
    for name in ("perplexity", "perplexity/position-0", "joint_perplexity", "joint_coverage", "dead_share"):
        curve = client.get_metric_history(run_id, f"validation/{name}")
        assert {point.step for point in curve} == {2, 4}, f"{name} is a curve in MLflow"

    report = json.loads(lapactl("report", run, "--work", work, "--output", "json").stdout)
    page = Path(report["report"]).read_text()
    assert "<html" in page
    assert by_name["finetune", run]["outputs"]["policy"]["digest"][:8] in page
