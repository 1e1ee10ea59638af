"""What a preset's models are made of, without allocating them."""

import pytest

from lapa.config.load import load_run
from lapa.errors import ConfigError
from lapa.stages.describe import describe


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


def test_a_stage_that_trains_nothing_is_refused():
    with pytest.raises(ConfigError, match="choose laq, pretrain or finetune"):
        describe(load_run("tabletop"), "ingest")
