"""What pretraining learns, what labels it and what finetuning keeps must fit together."""

import pytest

from lapa.config.load import load_run
from lapa.errors import ConfigError

LABELLED = ("laq.labeller=inverse-dynamics", "pretrain.target.kind=labelled-actions")
RECORDED = ("pretrain.target={kind: recorded-actions, head: {kind: binned, bins: 16, decode: mean}}",)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LABELLED[:1], r"set pretrain\.target\.kind=labelled-actions, or laq\.labeller=latent-action"),
        (LABELLED[1:], r"needs laq\.labeller=inverse-dynamics"),
        (("finetune.keep_head=true",), r"keep_head needs a pretrain target of actions"),
        ((*RECORDED, "finetune.keep_head=true", "finetune.head.bins=8"), r"finetune\.head .*bins=8.* would be ignored"),
        ((*RECORDED, "finetune.latent_loss_weight=0.5"), r"latent_loss_weight=0\.5 would be ignored"),
        (
            ("pretrain=null", "finetune.backbone.kind=convolutional", "finetune.keep_head=true"),
            r"no head for finetune\.keep_head",
        ),
        ((*LABELLED, "robot=null", "finetune=null", "laq.gate=null"), r"learns from robot episodes with actions"),
    ],
)
def test_settings_that_contradict_each_other_name_the_way_out(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        load_run("tabletop", settings)


def test_recorded_actions_with_their_head_kept_and_no_finetuning_are_a_run():
    run = load_run("tabletop", (*RECORDED, "finetune.keep_head=true", "finetune.fit.steps=0", "baselines={}"))
    assert run.pretrain and run.finetune and run.finetune.head == run.pretrain.target.head
