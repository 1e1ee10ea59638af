"""Under ZeRO-3 a transformers backbone is built in parts, and everything else stays as with the torch engine."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from lapa.config.training import TorchEngineConfig
from lapa.config.vla import LoraConfig
from lapa.models.storage import load_state
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.storage import load_vla, save_vla, start_finetuning
from lapa.training.engine import build_engine
from tests.distributed import run_ranks
from tests.models.vla.models import some_batch, spec_of, tiny_backbone
from tests.training.partitioned import BATCH, FIT, finetuning, train

HERE = Path(__file__).parent


def specs(folder: Path) -> dict[str, VlaSpec]:
    """Weights from files, the vision encoder frozen; another family with weights drawn from a seed, and adapters."""
    files = tiny_backbone(folder / "llava", "llava").model_copy(update={"weights": "pretrained"})
    torch.manual_seed(1)
    AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(files.model)).save_pretrained(files.model)
    drawn = tiny_backbone(folder / "paligemma", "paligemma", lora=LoraConfig(rank=4))
    return {"pretrained": spec_of(files), "adapted": spec_of(drawn)}


def test_a_backbone_in_parts_starts_trains_saves_and_continues_like_a_whole_one(tmp_path: Path) -> None:
    wanted = specs(tmp_path)
    plain = {name: spec.model_dump(mode="json") for name, spec in wanted.items()}
    (tmp_path / "specs.json").write_text(json.dumps(plain))
    starts, losses = {}, {}
    pretrained = str(tmp_path / "torch-pretrained")
    builds = {name: lambda spec=spec: build_vla(spec) for name, spec in wanted.items()}
    builds["finetuned"] = lambda: start_finetuning(pretrained, finetuning(wanted["pretrained"]))
    for name, build in builds.items():
        engine = build_engine(build, TorchEngineConfig(device="cpu"), FIT, seed=5)
        starts[name] = engine.full_state()
        losses[name] = train(engine, BATCH)
        save_vla(tmp_path / f"torch-{name}", engine.model, engine.full_state())

    run_ranks(HERE / "check_partitioned.py", [str(tmp_path)])
    findings = json.loads((tmp_path / "findings.json").read_text())

    batch = some_batch()
    for name in builds:
        model = load_vla(str(tmp_path / f"zero-{name}"))
        predict = model.predict_actions if name == "finetuned" else model.predict_codes
        found = findings[name]
        assert found["whole"] == [] and found["share"] == pytest.approx(0.5, abs=0.01), name
        start = torch.load(tmp_path / f"zero-{name}" / "start.pt")
        assert start.keys() == starts[name].keys()
        assert [key for key in start if not torch.equal(start[key], starts[name][key])] == [], name
        assert found["losses"] == pytest.approx(losses[name], rel=1e-5), name
        assert predict(batch.current, batch.instructions).tolist() == found["predicted"], name

    assert not any("vision_tower" in key for key in moved_weights(tmp_path / "zero-pretrained")), "it is frozen"
    moved = moved_weights(tmp_path / "zero-adapted")
    assert any("lora_A" in key for key in moved)
    assert all("lora_" in key or ".tokens." in key or key.startswith("latent_head") for key in moved), moved
    kept, source = torch.load(tmp_path / "zero-finetuned/start.pt"), load_state(pretrained)
    assert all(torch.equal(kept[key], value) for key, value in source.items()), "finetuning starts from the file"


def moved_weights(folder: Path) -> set[str]:
    """What training changed."""
    first, last = torch.load(folder / "start.pt"), load_state(str(folder))
    return {key for key in first if not torch.equal(first[key], last[key])}
