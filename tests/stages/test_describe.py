"""What a preset's models are made of, without allocating them."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.config.vla import HuggingFaceBackbone
from lapa.errors import ConfigError
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.tiny import FAMILIES, write_tiny_backbone
from lapa.stages.describe import describe
from lapa.types.batches import Batch
from tests.builders import ACTION_DIMS, make_dataset


def test_the_published_model_has_its_published_size():
    described = describe(load_run("lapa-paper"), "laq")
    assert described["parameters"] == 343_796_080
    assert described["latent_actions"] == 4096
    flops = described["flops_per_sample"]
    # Measured on the public code: 68.5 G forward, 52.7 G for labels.
    assert flops["train (forward)"] == pytest.approx(68.5e9, rel=0.01)
    assert flops["label"] == pytest.approx(52.7e9, rel=0.01)


def test_a_small_policy_tells_its_layers():
    described = describe(load_run("tabletop"), "pretrain")
    assert described["parameters"] == sum(p["parameters"] for p in described["layers"] if "." not in p["name"])
    assert described["flops_per_sample"]["train (forward)"] > 0


def test_the_baselines_models_are_described_too():
    """Every target keeps the backbone, and the labeller of actions is a model of its own."""
    labelled = load_run("tabletop", ["laq.labeller=inverse-dynamics", "pretrain.target.kind=labelled-actions"])
    labeller = describe(labelled, "laq")
    assert labeller["model"] == "InverseDynamicsModel" and labeller["flops_per_sample"]["label"] > 0
    codes, actions = (describe(run, "pretrain") for run in (load_run("tabletop"), labelled))
    assert "action_head" in {layer["name"] for layer in actions["layers"]}
    assert "latent_head" in {layer["name"] for layer in codes["layers"]}
    assert "assumed" in actions["actions"]


def test_a_stage_that_trains_nothing_is_refused():
    with pytest.raises(ConfigError, match="choose laq, pretrain or finetune"):
        describe(load_run("tabletop"), "ingest")


@pytest.fixture
def tiny(tmp_path) -> str:
    """A real family's backbone with no weights at all: loading them would fail."""
    return str(write_tiny_backbone(tmp_path / "backbone", "llava"))


def hugging_face(folder: str, *settings: str) -> RunConfig:
    backbone = {"kind": "huggingface", "model": folder, "weights": "pretrained"}
    return load_run("tabletop", [f"pretrain.backbone={json.dumps(backbone)}", *settings])


def test_a_hugging_face_model_is_counted_without_its_weights(tiny):
    run = hugging_face(tiny)
    described = describe(run, "pretrain")
    codes, size = run.laq.model.codes_per_pair, run.laq.model.codebook_size
    backbone = HuggingFaceBackbone(model=tiny, weights="random")
    real = build_vla(VlaSpec(backbone=backbone, codes_per_pair=codes, codebook_size=size))
    assert described["parameters"] == sum(parameter.numel() for parameter in real.parameters())
    batch = Batch(
        current=torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        instructions=("push the red circle to the blue square",),
        episode=torch.zeros(1, dtype=torch.int64),
        timestep=torch.zeros(1, dtype=torch.int64),
        codes=torch.zeros(1, codes, dtype=torch.int64),
    )
    with FlopCounterMode(display=False) as counter:
        real(batch)
    assert described["flops_per_sample"]["train (forward)"] == counter.get_total_flops()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_describes_with_its_action_head(tmp_path, family):
    folder = str(write_tiny_backbone(tmp_path / "backbone", family))
    described = describe(hugging_face(folder), "finetune")
    assert "action_head" in {layer["name"] for layer in described["layers"]}
    assert described["flops_per_sample"]["train (forward)"] > 0 and "note" not in described


def test_a_finetuned_policy_is_described_with_its_action_head_and_where_its_dimensions_come_from(tmp_path):
    robot = make_dataset(tmp_path / "robot", episodes=2, frames=6, actions=True)
    known = describe(load_run("tabletop", ["robot.kind=dataset", f"robot.url={robot}"]), "finetune")
    assumed = describe(load_run("tabletop", [f"work_url={tmp_path}"]), "finetune")
    assert known["actions"] == f"{ACTION_DIMS} dimensions, of the robot dataset"
    assert assumed["actions"] == "7 dimensions, assumed, for the robot dataset is not made yet"
    for described in (known, assumed):
        names = {layer["name"] for layer in described["layers"]}
        assert "action_head" in names and "latent_head" not in names
        assert described["flops_per_sample"]["train (forward)"] > 0
    # More dimensions are more tokens after the prompt.
    assert assumed["flops_per_sample"]["train (forward)"] > known["flops_per_sample"]["train (forward)"]
