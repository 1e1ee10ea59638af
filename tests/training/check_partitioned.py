"""Runs on every rank: transformers backbones built in parts (ZeRO-3), trained, saved, and continued.

Usage: check_partitioned.py FOLDER; FOLDER holds what `test_partitioned.py` wrote. Rank 0 writes
FOLDER/findings.json and the models FOLDER/zero-NAME.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lapa.config.training import DeepSpeedEngineConfig
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.storage import save_vla, start_finetuning
from lapa.process import end_process
from lapa.training.engine import build_engine
from tests.models.vla.models import some_batch
from tests.training.partitioned import BATCH, FIT, finetuning, split, train


class Watched:
    """Builds a model and notes, before DeepSpeed sees it, how much of its backbone this rank holds."""

    def __init__(self, build: Any) -> None:
        self.build = build
        self.share = 1.0
        self.whole: list[str] = []

    def __call__(self) -> nn.Module:
        model: nn.Module = self.build()
        own = {n: p for n, p in model.backbone.model.named_parameters() if not _is_ours(n)}
        self.whole = [n for n, p in own.items() if not hasattr(p, "ds_status") or p.ds_status.name != "NOT_AVAILABLE"]
        held = sum(p.ds_tensor.numel() for p in own.values() if hasattr(p, "ds_tensor"))
        self.share = held / sum(p.ds_numel for p in own.values() if hasattr(p, "ds_numel"))
        return model


def _is_ours(name: str) -> bool:
    return ".tokens." in name or "lora_" in name


def main() -> None:
    folder = Path(sys.argv[1])
    plain = json.loads((folder / "specs.json").read_text())
    specs = {name: VlaSpec.model_validate(spec) for name, spec in plain.items()}
    findings: dict[str, Any] = {}
    builds = {name: lambda spec=spec: build_vla(spec) for name, spec in specs.items()}
    pretrained = str(folder / "torch-pretrained")
    builds["finetuned"] = lambda: start_finetuning(pretrained, finetuning(specs["pretrained"]))
    for name, build in builds.items():
        watched = Watched(build)
        engine = build_engine(watched, DeepSpeedEngineConfig(zero_stage=3, bucket_bytes=20_000), FIT, seed=5)
        start = engine.full_state()
        losses = train(engine, split(BATCH, engine.rank, engine.world_size))
        state = engine.full_state()
        engine.model.eval()
        batch = some_batch()
        with torch.no_grad():
            method = "predict_actions" if name == "finetuned" else "predict_codes"
            predicted = engine.run(batch.current, batch.instructions, method=method)
        if engine.rank == 0:
            save_vla(folder / f"zero-{name}", engine.model, state)
            torch.save(start, folder / f"zero-{name}" / "start.pt")
            findings[name] = {
                "share": watched.share,
                "whole": watched.whole,
                "losses": losses,
                "predicted": predicted.tolist(),
            }
            (folder / "findings.json").write_text(json.dumps(findings))
        if name != "finetuned":
            engine.wrapped.destroy()
    engine.close()


if __name__ == "__main__":
    main()
    end_process(0)
