import itertools
from dataclasses import replace

import pytest
import torch

from lapa.config.vla import BinnedHead, FlowHead, L1Head
from lapa.errors import CheckpointMismatch
from lapa.models.vla.heads.build import build_action_head
from lapa.models.vla.model import VisionLanguageAction
from lapa.models.vla.storage import load_vla, save_vla, start_finetuning
from lapa.models.vla.tiny import FAMILIES
from tests.models.vla.models import (
    CODES,
    ENTRIES,
    seeded,
    small_convolutional,
    some_batch,
    spec_of,
    tiny_backbone,
    two_dims_and_a_gripper,
)

HEADS = [BinnedHead(bins=16, horizon=2), L1Head(horizon=2), FlowHead(horizon=2, width=32)]


def overfit(model: VisionLanguageAction, name: str, steps: int, rate: float = 3e-3) -> tuple[float, float]:
    batch = some_batch()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(steps):
        loss = model(batch)[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[:3]) / 3, sum(losses[-3:]) / 3


@pytest.mark.parametrize("family", ["convolutional", "smolvlm", "qwen2_5_vl"])
def test_every_code_in_every_position_survives_decoding(tmp_path, family):
    backbone = small_convolutional() if family == "convolutional" else tiny_backbone(tmp_path, family)
    model = seeded(spec_of(backbone)).eval()
    batch = some_batch(1)
    for position, code in itertools.product(range(CODES), range(ENTRIES)):

        def prefer(at, hidden, position=position, code=code):
            logits = torch.zeros(len(hidden), ENTRIES)
            logits[:, code if at == position else (code + 3) % ENTRIES] = 1
            return logits

        model.latent_head.at = prefer
        codes = model.predict_codes(batch.current, batch.instructions)
        expected = [code if at == position else (code + 3) % ENTRIES for at in range(CODES)]
        assert codes.tolist() == [expected]


@pytest.mark.parametrize("family", ["convolutional", *FAMILIES])
def test_an_overfitted_model_decodes_the_codes_it_was_shown(tmp_path, family):
    backbone = small_convolutional() if family == "convolutional" else tiny_backbone(tmp_path, family)
    model = seeded(spec_of(backbone))
    first, last = overfit(model, "latent", 60, 1e-2)
    assert last < 0.3 * first
    batch = some_batch()
    model.eval()
    assert model(batch)["accuracy/latent_action"] == 1
    assert torch.equal(model.predict_codes(batch.current, batch.instructions), batch.codes)


@pytest.mark.parametrize("head", HEADS[:2], ids=lambda head: head.kind)
def test_each_action_head_learns_a_toy_batch_and_decodes_near_it(head):
    model = seeded(spec_of(small_convolutional(), head, latent=False))
    first, last = overfit(model, "action", 100, 5e-3)
    assert last < 0.5 * first
    batch = some_batch()
    actions = model.eval().predict_actions(batch.current, batch.instructions)
    assert actions.shape == batch.actions.shape
    assert (actions - batch.actions).abs().mean() < 0.35


def test_the_flow_head_draws_chunks_near_those_it_was_shown():
    torch.manual_seed(0)
    head = build_action_head(FlowHead(horizon=2, width=64), two_dims_and_a_gripper(), width=16, std=0.02)
    hidden, actions = torch.randn(3, 2, 16), some_batch().actions
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(600):
        loss = head.losses(hidden.repeat(32, 1, 1), actions.repeat(32, 1, 1), None)["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = head.decode(hidden, torch.Generator().manual_seed(0))
    assert (drawn - actions).abs().mean() < 0.1


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_targets_belong_to_exactly_one_head(head):
    """The latent loss leaves the action head alone, and the other way round."""
    model = seeded(spec_of(small_convolutional(), head))
    for loss, untouched in (("latent", "action"), ("action", "latent")):
        model.zero_grad(set_to_none=True)
        model(some_batch())[loss].backward()
        other_head = model.action_head if untouched == "action" else model.latent_head
        assert all(p.grad is None for p in other_head.parameters())
        rows = model.backbone.tokens.tables[untouched].weight.grad
        assert rows is None or not rows.any()


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_actions_past_the_end_of_an_episode_carry_no_loss(head):
    model = seeded(spec_of(small_convolutional(), head, latent=False))
    batch = some_batch()
    real = batch.action_is_real.clone()
    real[:, 1] = False
    # The suffix of the binned head ends with the last action's tokens, so only its last entry may differ.
    other = batch.actions.clone()
    other[:, 1, 2] = 1 - other[:, 1, 2]
    losses = []
    for actions in (batch.actions, other):
        torch.manual_seed(1)
        losses.append(model(replace(batch, actions=actions, action_is_real=real))["action"])
    if head.kind == "flow":  # the noised chunk is an input, so padding may shift the prediction, never the target
        torch.testing.assert_close(losses[0], losses[1], atol=0.2, rtol=0.2)
    else:
        torch.testing.assert_close(losses[0], losses[1])


def test_the_binned_head_gives_only_values_of_its_table():
    model = seeded(spec_of(small_convolutional(), HEADS[0], latent=False)).eval()
    batch = some_batch()
    actions = model.predict_actions(batch.current, batch.instructions)
    for i, dimension in enumerate(model.spec.actions.dimensions):
        centers = torch.tensor(dimension.centers)
        assert torch.isin(actions[..., i], centers).all()


def test_the_expected_value_keeps_a_gripper_binary():
    model = seeded(spec_of(small_convolutional(), BinnedHead(bins=16, decode="mean"), latent=False)).eval()
    batch = some_batch()
    actions = model.predict_actions(batch.current, batch.instructions)
    assert set(actions[..., 2].flatten().tolist()) <= {0.0, 1.0}
    assert not torch.isin(actions[..., 0], torch.tensor(model.spec.actions.dimensions[0].centers)).all()


def test_flow_actions_repeat_under_one_generator():
    model = seeded(spec_of(small_convolutional(), HEADS[2], latent=False)).eval()
    batch = some_batch()

    def draw(seed):
        return model.predict_actions(batch.current, batch.instructions, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_proprioception_changes_the_action(head):
    model = seeded(
        spec_of(small_convolutional(), head, latent=False, proprioception_dims=2, proprioception_std=(2.0, 2.0))
    ).eval()
    batch = some_batch()
    hidden = torch.randn(3, 2, 32)
    near, far = model.proprioception(hidden, torch.zeros(3, 2)), model.proprioception(hidden, torch.ones(3, 2))
    assert not torch.equal(near, far)
    model.predict_actions(batch.current, batch.instructions, torch.zeros(3, 2))


def test_a_joint_that_never_moved_in_the_data_enters_as_it_is():
    spec = spec_of(
        small_convolutional(), HEADS[1], proprioception_dims=2, proprioception_mean=(0.5, 0), proprioception_std=(0, 4)
    )
    fusion = seeded(spec).proprioception
    read = []
    fusion.fuse[0].register_forward_hook(lambda module, inputs, output: read.append(inputs[0][0, 0, -2:].tolist()))
    fusion(torch.zeros(1, 1, 32), torch.tensor([[0.75, 2.0]]))
    assert read == [[0.25, 0.5]]


@pytest.mark.parametrize("family", ["convolutional", *FAMILIES])
def test_a_saved_model_predicts_the_same_after_loading_without_its_origin(tmp_path, family):
    origin = tmp_path / "origin"
    backbone = small_convolutional() if family == "convolutional" else tiny_backbone(origin, family)
    model = seeded(spec_of(backbone, HEADS[0])).eval()
    save_vla(tmp_path / "model", model)
    if family != "convolutional":
        origin.rename(tmp_path / "gone")
    loaded = load_vla(str(tmp_path / "model"))
    batch = some_batch()
    assert torch.equal(
        model.predict_codes(batch.current, batch.instructions), loaded.predict_codes(batch.current, batch.instructions)
    )
    hidden = [m.backbone(batch.current, batch.instructions, batch.codes) for m in (model, loaded)]
    torch.testing.assert_close(*hidden)
    save_vla(tmp_path / "again", loaded)
    load_vla(str(tmp_path / "again"))


@pytest.mark.parametrize("family", ["convolutional", "smolvlm"])
def test_finetuning_starts_from_the_pretrained_backbone_with_a_new_action_head(tmp_path, family):
    backbone = small_convolutional() if family == "convolutional" else tiny_backbone(tmp_path / "origin", family)
    pretrained = seeded(spec_of(backbone))
    save_vla(tmp_path / "model", pretrained)
    torch.manual_seed(1)
    dropped = start_finetuning(str(tmp_path / "model"), spec_of(backbone, HEADS[0], latent=False))
    kept = start_finetuning(str(tmp_path / "model"), spec_of(backbone, HEADS[0]))
    assert dropped.latent_head is None and "latent" not in dropped.backbone.tokens.tables
    torch.testing.assert_close(kept.latent_head.logits.weight, pretrained.latent_head.logits.weight)
    before = {n: p for n, p in pretrained.backbone.named_parameters() if ".tables." not in f".{n}"}
    for model in (dropped, kept):
        after = dict(model.backbone.named_parameters())
        assert before and all(torch.equal(p, after[n]) for n, p in before.items())


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_an_action_head_is_kept_when_asked_and_new_otherwise_though_it_would_fit(tmp_path, head):
    """Equal shapes do not make equal bins."""
    spec = spec_of(small_convolutional(), head, latent=False)
    pretrained = seeded(spec)
    save_vla(tmp_path / "model", pretrained)
    torch.manual_seed(1)
    kept = start_finetuning(str(tmp_path / "model"), spec, keep_head=True).state_dict()
    new = start_finetuning(str(tmp_path / "model"), spec).state_dict()
    before = pretrained.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    is_new = {name for name, value in before.items() if not torch.equal(new[name], value)}
    drawn = {name for name, value in before.items() if "action" in name and value.ndim > 1}
    assert drawn and is_new >= drawn and all("action" in name for name in is_new)


def test_finetuning_another_backbone_is_refused(tmp_path):
    save_vla(tmp_path / "model", seeded(spec_of(small_convolutional())))
    other = small_convolutional().model_copy(update={"hidden": 64})
    with pytest.raises(CheckpointMismatch, match=r"finetune\.backbone"):
        start_finetuning(str(tmp_path / "model"), spec_of(other, HEADS[0]))
