import logging

import pytest
import torch

from lapa.config.vla import HuggingFaceBackbone, LoraConfig
from lapa.errors import ConfigError
from lapa.models.vla.backbones.convolutional import ConvolutionalBackbone, hashed_words
from lapa.models.vla.tiny import FAMILIES
from tests.models.vla.models import seeded, small_convolutional, some_batch, spec_of, tiny_backbone

BACKBONES = ["convolutional", *FAMILIES]


@pytest.fixture(params=BACKBONES)
def model(request, tmp_path):
    if request.param == "convolutional":
        backbone = small_convolutional()
    else:
        backbone = tiny_backbone(tmp_path, request.param)
    return seeded(spec_of(backbone)).eval()


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch_companions(model):
    batch, suffix = some_batch(), torch.randint(0, 8, (3, 3))
    together = model.backbone(batch.current, batch.instructions, suffix)
    for i in range(3):
        alone = model.backbone(batch.current[i : i + 1], batch.instructions[i : i + 1], suffix[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_decoding_token_by_token_equals_reading_everything_at_once(model):
    batch, suffix = some_batch(), torch.randint(0, 8, (3, 3))
    at_once = model.backbone(batch.current, batch.instructions, suffix)
    reading = model.backbone.read(batch.current, batch.instructions)
    hidden = [reading.hidden]
    for i in range(3):
        reading.append(suffix[:, i])
        hidden.append(reading.hidden)
    torch.testing.assert_close(torch.stack(hidden, dim=1), at_once, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_hidden_states_see_the_image_the_instruction_and_only_earlier_tokens(model):
    batch, suffix = some_batch(1), torch.tensor([[1, 2, 3]])
    hidden = model.backbone(batch.current, batch.instructions, suffix)
    other_image = model.backbone(255 - batch.current, batch.instructions, suffix)
    other_words = model.backbone(batch.current, ("shove it",), suffix)
    other_token = model.backbone(batch.current, batch.instructions, torch.tensor([[1, 5, 3]]))
    assert not torch.allclose(hidden, other_image, atol=1e-6)
    assert not torch.allclose(hidden, other_words, atol=1e-6)
    torch.testing.assert_close(hidden[:, :2], other_token[:, :2])
    assert not torch.allclose(hidden[:, 2], other_token[:, 2], atol=1e-6)


def test_prompts_are_counted_where_they_are_padded(model):
    batch = some_batch()
    lengths = model.backbone.lengths(batch.instructions)
    if isinstance(model.backbone, ConvolutionalBackbone):
        assert lengths is None
        return
    real = model.backbone.prompter(batch.current, batch.instructions)["attention_mask"].sum(dim=1)
    assert torch.equal(real - torch.tensor(lengths), (real - torch.tensor(lengths))[:1].expand(3))
    assert len(set(lengths)) == 3


def test_every_new_row_gets_a_gradient_when_it_is_used(model):
    batch = some_batch(2)
    model.backbone(batch.current, batch.instructions, torch.tensor([[0, 1], [2, 3]])).square().sum().backward()
    gradient = model.backbone.tokens.tables["latent"].weight.grad
    assert (gradient[:4].abs().sum(dim=-1) > 0).all()
    assert (gradient[4:] == 0).all()


def test_word_order_matters_to_the_convolutional_backbone():
    backbone = seeded(spec_of(small_convolutional())).backbone.eval()
    first, second = backbone.instruction(("push the circle to the square", "push the square to the circle"))
    assert not torch.allclose(first, second, atol=1e-3)


def test_word_buckets_are_the_same_on_every_machine():
    assert hashed_words("Push the RED circle!", 1024) == hashed_words("push the red circle", 1024)
    assert hashed_words("push the red circle", 1024) == (410, 559, 164, 385)


def test_a_long_instruction_is_shortened_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(hashed_words("go " * 400, 64)) == 24
    assert "instruction_shortened" in caplog.text


def test_a_long_instruction_leaves_the_prompt_bounded_and_the_targets_whole(tmp_path):
    model = seeded(spec_of(tiny_backbone(tmp_path, "smolvlm", max_instruction_tokens=8))).eval()
    batch = some_batch(1)
    suffix = torch.tensor([[1, 2, 3]])
    long = model.backbone(batch.current, ("push it " * 500,), suffix)
    short = model.backbone(batch.current, ("push it ",), suffix)
    assert long.shape == (1, 4, 32)
    torch.testing.assert_close(long, short)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_instruction_that_spells_an_image_mark_is_not_an_image(tmp_path, family):
    model = seeded(spec_of(tiny_backbone(tmp_path, family))).eval()
    model.backbone(some_batch(1).current, ("push <image><|image_pad|> it",), torch.zeros(1, 0, dtype=torch.int64))


@pytest.mark.parametrize("family", FAMILIES)
def test_freezing_the_vision_encoder_trains_the_language_model_only(tmp_path, family):
    model = seeded(spec_of(tiny_backbone(tmp_path, family)))
    vision = set(model.backbone.model.get_encoder(modality="image").parameters())
    language = set(model.backbone.model.get_decoder().parameters())
    assert vision and not any(p.requires_grad for p in vision)
    assert language and all(p.requires_grad for p in language)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_trains_only_adapters_new_rows_and_heads(tmp_path, family):
    model = seeded(spec_of(tiny_backbone(tmp_path, family, lora=LoraConfig(rank=2))))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        name
        for name, _ in model.named_parameters()
        if "lora_" in name or ".tokens.tables." in name or name.startswith("latent_head.")
    }
    adapted = [name for name in trained if "lora_" in name]
    assert adapted and all("language_model" in name or "text_model" in name for name in adapted)
    model(some_batch())["latent"].backward()


def test_gradient_checkpointing_gives_the_same_gradients(tmp_path):
    batch = some_batch()
    gradients = []
    for checkpointing in (False, True):
        model = seeded(spec_of(tiny_backbone(tmp_path, "smolvlm", gradient_checkpointing=checkpointing))).train()
        model(batch)["latent"].backward()
        gradients.append(model.backbone.tokens.tables["latent"].weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_folder_that_is_no_model_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"backbone\.model"):
        seeded(spec_of(HuggingFaceBackbone(model=str(tmp_path), weights="random")))
