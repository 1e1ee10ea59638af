"""A finished run as its folders would look, made of invented numbers: something to draw a report from."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from lapa import files
from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.config.stages import STAGES
from lapa.report.collect import collect_run
from lapa.report.summary import AnalysisSummary, RunSummary
from lapa.tracking.tracker import png_bytes
from tests.builders import make_dataset

INSTRUCTIONS = ("push the red circle to the blue square", "push the green star left", "put the cup on the plate")
SCORES = {"tabletop": 0.62, "scratch": 0.36, "vpt": 0.51}


def example_config(work: Path) -> RunConfig:
    run = load_run("tabletop", [f"work_url={work}"])
    scratch = {"pretrain": None, "finetune.backbone": {"kind": "convolutional"}}
    return run.model_copy(update={"baselines": {"scratch": scratch, "vpt": {"laq.window_seconds": 0.3}}})


def write_dataset(folder: Path, *, has_actions: bool, instructions: tuple[str, ...] = INSTRUCTIONS) -> None:
    """A short clip for every instruction."""
    make_dataset(folder, len(instructions), 12, actions=has_actions, instructions=instructions, licence="CC0-1.0")


def write_run(work: Path, *, perplexity: float = 5.3) -> RunConfig:
    """Every stage of a run and two baselines, finished."""
    rng = random.Random(0)
    run = example_config(work)
    write_dataset(work / "datasets" / "videos", has_actions=False)
    write_dataset(work / "datasets" / "robot", has_actions=True)
    write_laq(work, run.name, rng, perplexity)
    _result(work, run.name, "ingest", {}, {"videos": "datasets/videos", "robot": "datasets/robot"}, 74, {})
    _result(work, run.name, "label", {"videos": "datasets/videos", "laq": "laq"}, {"labels": "labels"}, 41,
            {"label/perplexity": 5.2})  # fmt: skip
    _curve(work, run.name, "pretrain", rng, 1600, accuracy=0.61)
    _result(work, run.name, "pretrain", {"videos": "datasets/videos", "labels": "labels"}, {"model": "pretrain"}, 187,
            {"loss": 0.9})  # fmt: skip
    for arm, rate in SCORES.items():
        inputs = {"robot": "datasets/robot"} | ({} if arm == "scratch" else {"pretrain": "pretrain"})
        _curve(work, arm, "finetune", rng, 500)
        _result(work, arm, "finetune", inputs, {"policy": f"{arm}-policy"}, 64, {"loss": 0.2})
        _result(work, arm, "evaluate", {"robot": "datasets/robot", "policy": f"{arm}-policy"},
                {"report": f"{arm}-report"}, 58, _evaluation(rate))  # fmt: skip
        write_episodes(_folder(work, arm, "evaluate"), rate)
    return run


def folders_of(work: Path, run: RunConfig) -> dict[str, dict[str, str | None]]:
    """Where the stages of `write_run` are; None for those that were not written."""
    own = {"ingest": run.name, "label": run.name, "pretrain": run.name}
    found: dict[str, dict[str, str | None]] = {}
    for arm in (run.name, *run.baselines):
        stages = STAGES if arm != "scratch" else ("ingest", "finetune", "evaluate")
        paths = {s: work / "laq-0000000000" if s == "laq" else _folder(work, own.get(s, arm), s) for s in stages}
        found[arm] = {stage: str(path) if path.exists() else None for stage, path in paths.items()}
    return found


def summarize(work: Path, run: RunConfig, analysis: AnalysisSummary | None = None) -> RunSummary:
    return collect_run(run, folders_of(work, run), analysis=analysis)


def write_episodes(folder: Path, rate: float, *, seed: int = 10_000) -> None:
    """180 episodes of which the first ones of every ten succeed; the same initial states for every arm."""
    outcomes = [
        {
            "seed": seed + index,
            "kind": ("push_to_object", "push_to_side")[index % 2],
            "split": ("seen", "unseen-object")[index // 90],
            "instruction": INSTRUCTIONS[index % 3],
            "success": index % 50 < 50 * rate,
            "steps": 20 + index % 9,
        }
        for index in range(180)
    ]
    (folder / "episodes.json").write_text(json.dumps({"policy": {"outcomes": outcomes}}))
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures" / "episodes.png").write_bytes(png_bytes(_tiles(4, 8)))


def write_laq(work: Path, arm: str, rng: random.Random, perplexity: float, *, falls_at: int | None = None) -> None:
    """Codes in use rise to `perplexity`; with `falls_at` they rise to 5.3 first."""
    rows: list[dict[str, Any]] = []
    final = perplexity
    for step in range(20, 2001, 20):
        progress = 1 - math.exp(-step / 400)
        perplexity = 5.3 if falls_at is not None and step < falls_at else final
        rows.append(_row(step, {
            "train/total": 0.012 * math.exp(-step / 500) + 0.0011 + rng.gauss(0, 0.0002),
            "train/learning_rate": 3e-4 * min(1.0, step / 200), "train/gradient_norm": 0.4 + rng.random() * 0.2,
            "speed/samples_per_second": 900 + rng.gauss(0, 40), "speed/data_wait_share": 0.04 + rng.random() * 0.02,
        }))  # fmt: skip
        if step % 100 == 0:
            now = 1 + (perplexity - 1) * progress + rng.gauss(0, 0.03)
            rows.append(_row(step, {"train/perplexity": now * 0.97, "train/revived_codes": 0.0}))
        if step % 200 == 0:
            rows.append(_row(step, {
                "validation/perplexity": now, "validation/perplexity/position-0": now * 1.03,
                "validation/perplexity/position-1": now * 0.9, "validation/joint_perplexity": max(1.0, now**2 * 0.8),
                "validation/dead_share": 0.5 * math.exp(-step / 250), "validation/joint_coverage": 0.9 * progress,
                "validation/relative_error": 1 - 0.55 * progress, "validation/probe_r2/additive": 0.68 * progress,
                "validation/probe_r2/joint": 0.72 * progress, "validation/probe_r2/shuffled": rng.gauss(0, 0.01),
                "validation/reconstruction_error": 0.0013, "validation/copy_error": 0.003,
            }))  # fmt: skip
    folder = work / "laq-0000000000"
    _write_rows(folder, rows)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for step in (200, 2000):
        (folder / "pictures" / f"code-atlas-{step:08d}.png").write_bytes(png_bytes(_tiles(8, 8)))
        (folder / "pictures" / f"reconstruction-{step:08d}.png").write_bytes(png_bytes(_tiles(4, 8)))
    _result(work, arm, "laq", {"videos": "datasets/videos", "robot": "datasets/robot"}, {"model": "laq"}, 266, {
        "perplexity": perplexity, "dead_share": 0.0, "relative_error": 0.45, "joint_coverage": 0.83,
        "joint_perplexity": max(1.0, perplexity**2 * 0.8),
    }, folder=folder)  # fmt: skip


def _evaluation(rate: float) -> dict[str, float]:
    spread = 1.96 * math.sqrt(rate * (1 - rate) / 180)
    return {
        "success_rate": rate, "success_low": rate - spread, "success_high": rate + spread, "episodes": 180.0,
        "oracle_success_rate": 0.978, "oracle_success_low": 0.944, "oracle_success_high": 0.991,
        "oracle_episodes": 180.0,
        "success_rate/push_to_object": rate + 0.05, "success_rate/push_to_side": rate - 0.05,
        "held_out/ratio": 0.9 - 0.6 * rate, "held_out/timesteps": 412.0,
        "held_out/mae/x": 0.011 - 0.008 * rate, "held_out/mae/y": 0.012 - 0.008 * rate,
        "held_out/mean_action_mae/x": 0.0121, "held_out/mean_action_mae/y": 0.0119,
    }  # fmt: skip


def _curve(work: Path, arm: str, stage: str, rng: random.Random, steps: int, accuracy: float = 0.0) -> None:
    rows = []
    for step in range(20, steps + 1, 20):
        loss = 2.1 * math.exp(-step / (steps / 3)) + 0.5 + rng.gauss(0, 0.05)
        rows.append(_row(step, {"train/total": loss, "train/learning_rate": 1e-3, "train/gradient_norm": 1.0}))
        if step % 100 == 0:
            values = {"validation/total": loss * 1.08}
            if accuracy:
                values["validation/accuracy/code"] = accuracy * (1 - math.exp(-step / (steps / 4)))
            rows.append(_row(step, values))
    _write_rows(_folder(work, arm, stage), rows)


def _row(step: int, metrics: dict[str, float]) -> dict[str, Any]:
    return {"step": step, "time": 1.7e9 + step, "metrics": metrics}


def _write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _folder(work: Path, arm: str, stage: str) -> Path:
    return work / f"{stage}-{arm}00000"


def _result(
    work: Path, arm: str, stage: str, inputs: dict[str, str], outputs: dict[str, str], seconds: float,
    metrics: dict[str, float], folder: Path | None = None,
) -> None:  # fmt: skip
    folder = folder or _folder(work, arm, stage)
    folder.mkdir(parents=True, exist_ok=True)

    def artifact(name: str) -> dict[str, str]:
        return {"url": str(work / name), "digest": (name.encode().hex() * 8)[-48:]}

    result = {
        "stage": stage, "name": arm, "folder": str(folder), "metrics": metrics,
        "fingerprint": files.digest(json.dumps([stage, arm, metrics])),
        "inputs": {role: artifact(name) for role, name in inputs.items()},
        "outputs": {role: artifact(name) for role, name in outputs.items()},
        "messages": [], "seconds": seconds, "started": "2025-01-01T10:00:00+00:00",
        "finished": "2025-01-01T10:04:00+00:00", "hardware": "x86_64, 2 cores",
        "tracking": {"run_id": "5f" * 16, "url": None, "model": f"lapa-{stage}", "version": 1},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))


def _tiles(rows: int, columns: int) -> np.ndarray:
    picture = np.full((rows * 50, columns * 50, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = np.full((48, 48, 3), 232, np.uint8)
            tile[4 + 4 * row : 14 + 4 * row, 4 + 4 * column : 14 + 4 * column] = (200, 60, 60)
            picture[row * 50 : row * 50 + 48, column * 50 : column * 50 + 48] = tile
    return picture
