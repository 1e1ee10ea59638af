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
        (
            RECORDED,
            r"recorded-actions reads actions, and the episodes of 'videos' are recorded without: set videos\.so",
        ),
        (("laq.supervision={share: 0.02}",), r"laq\.supervision reads actions.*'videos'"),
        (("robot.source.record=videos",), r"finetune reads actions.*robot\.source\.record=demonstrations"),
        (
            ("robot.source={kind: videos, url: clips}", "finetune=null", "baselines={}"),
            r"laq\.gate reads actions.*lerobot, rlds or hdf5",
        ),
        (("evaluate.simulator.scene.world=workshop",), r"another robot than .*robot\.source\.scene\.world=studio"),
        (("evaluate.simulator={kind: metaworld}",), r"kind=metaworld .*robot\.source\.kind=tabletop: set both"),
        ((*LABELLED, "robot=null", "finetune=null", "laq.gate=null"), r"learns from robot episodes with actions"),
    ],
)
def test_settings_that_contradict_each_other_name_the_way_out(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        load_run("tabletop", settings)


def test_recorded_actions_with_their_head_kept_and_no_finetuning_are_a_run():
    with_actions = (*RECORDED, "videos.source.record=demonstrations", "baselines={}")
    run = load_run("tabletop", (*with_actions, "finetune.keep_head=true", "finetune.fit.steps=0"))
    assert run.pretrain and run.finetune and run.finetune.head == run.pretrain.target.head


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("evaluate.simulator.tasks.splits=[seen, unseen-object]", "evaluate.simulator.episodes=5"), r"some of the 6"),
        (
            ("evaluate.simulator.tasks={kinds: [reach], splits: [unseen-combination]}",),
            r"reach has no combinations of an object and a goal; add another kind or split",
        ),
        (("robot.source.seed=-1",), r"robot\.source\.seed: .*greater than or equal to 0, not -1"),
        (("evaluate.simulator.seed=-1",), r"evaluate\.simulator\.seed: .*greater than or equal to 0, not -1"),
        (("videos.source.image_size=47",), r"image_size: .*multiple of 2, not 47"),
        (("laq.inverse_dynamics.blocks=[]",), r"laq\.inverse_dynamics\.blocks: .*at least 1"),
    ],
)
def test_episodes_and_models_that_cannot_be_made_are_refused(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        load_run("tabletop", settings)
