"""The latent-action model: shapes for any size, hard codes in evaluation, positions that mean something."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lapa.config.latent_action import (
    ConvolutionalArchitecture,
    FeatureTarget,
    FsqConfig,
    LatentActionConfig,
    NoQuantizerConfig,
    NsvqConfig,
    PixelTarget,
    QuantizerConfig,
    TransformerArchitecture,
    VqEmaConfig,
    WithheldConfig,
)
from lapa.config.models import lapa_model
from lapa.errors import CheckpointMismatch, ConfigError
from lapa.models.latent_action.model import LATENT_ACTION_KIND, build_latent_action_model, load_latent_action_model
from lapa.models.latent_action.pictures import code_atlas, reconstruction_grid
from lapa.models.latent_action.pooling import code_grid
from lapa.models.latent_action.targets import build_target
from lapa.models.storage import save_model
from lapa.types.batches import FramePair

TRANSFORMER = TransformerArchitecture(
    patch_size=8, width=32, spatial_depth=1, temporal_depth=1, decoder_depth=1, heads=2, head_width=16
)
CONVOLUTIONAL = ConvolutionalArchitecture(width=16)
QUANTIZERS = (NsvqConfig(width=8), VqEmaConfig(width=8), FsqConfig(), NoQuantizerConfig(width=8), WithheldConfig())


def make_config(
    architecture: TransformerArchitecture | ConvolutionalArchitecture = TRANSFORMER,
    *,
    quantizer: QuantizerConfig = QUANTIZERS[0],
    codes: int = 4,
    size: int = 32,
    residual: bool = False,
) -> LatentActionConfig:
    return LatentActionConfig(
        image_size=size,
        codes_per_pair=codes,
        architecture=architecture,
        quantizer=quantizer,
        target=PixelTarget(residual=residual),
    )


def make_pair(size: int = 32, pairs: int = 3, seed: int = 0) -> FramePair:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randint(0, 256, (2, pairs, 3, size, size), dtype=torch.uint8, generator=generator)
    return FramePair(current=first, future=second)


@pytest.mark.parametrize("architecture", [TRANSFORMER, CONVOLUTIONAL], ids=lambda a: a.kind)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.kind)
def test_every_architecture_works_with_every_quantizer(
    architecture: TransformerArchitecture | ConvolutionalArchitecture, quantizer: QuantizerConfig
) -> None:
    model = build_latent_action_model(make_config(architecture, quantizer=quantizer))
    output = model(make_pair())
    output.loss.backward()
    assert output.codes.shape == (3, 4) and output.codes.dtype == torch.int64
    assert output.reconstruction.shape == (3, 3, 32, 32)
    assert output.reconstruction.min() >= 0 and output.reconstruction.max() <= 1
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("codes", [1, 2, 3, 4, 7, 16, 64])
@pytest.mark.parametrize("size", [16, 40, 64])
def test_any_number_of_codes_fits_any_grid(codes: int, size: int) -> None:
    for architecture in (TRANSFORMER, CONVOLUTIONAL):
        model = build_latent_action_model(make_config(architecture, codes=codes, size=size)).eval()
        actions = model.encode(make_pair(size, pairs=2))
        assert actions.codes.shape == (2, codes)
        assert actions.vectors.shape == (2, codes, 8)


def test_codes_are_laid_out_as_squarely_as_they_get() -> None:
    assert [code_grid(n) for n in (1, 2, 4, 6, 7, 16)] == [(1, 1), (2, 1), (2, 2), (3, 2), (7, 1), (4, 4)]


def test_frames_of_another_size_are_resized() -> None:
    model = build_latent_action_model(make_config()).eval()
    assert model(make_pair(50)).reconstruction.shape == (3, 3, 32, 32)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("architecture", [TRANSFORMER, CONVOLUTIONAL], ids=lambda a: a.kind)
@pytest.mark.parametrize("quantizer", QUANTIZERS[:3], ids=lambda q: q.kind)
def test_decoding_a_frame_and_its_codes_gives_the_hard_reconstruction(
    architecture: TransformerArchitecture | ConvolutionalArchitecture, quantizer: QuantizerConfig, residual: bool
) -> None:
    model = build_latent_action_model(make_config(architecture, quantizer=quantizer, residual=residual)).eval()
    pair = make_pair()
    with torch.no_grad():
        expected = model(pair).reconstruction
    torch.testing.assert_close(model.decode(pair.current, model.encode(pair).codes), expected)


@pytest.mark.parametrize("architecture", [TRANSFORMER, CONVOLUTIONAL], ids=lambda a: a.kind)
def test_every_code_position_changes_the_picture_in_its_own_way(
    architecture: TransformerArchitecture | ConvolutionalArchitecture,
) -> None:
    model = build_latent_action_model(make_config(architecture)).eval()
    frame = make_pair(pairs=1).current
    pictures = [model.decode(frame, 7 * torch.eye(4, dtype=torch.int64)[place][None]) for place in range(4)]
    for one in range(4):
        for other in range(one):
            assert (pictures[one] - pictures[other]).abs().max() > 1e-6


@pytest.mark.parametrize("architecture", [TRANSFORMER, CONVOLUTIONAL], ids=lambda a: a.kind)
def test_a_decoder_with_codes_withheld_knows_the_current_frame_alone(
    architecture: TransformerArchitecture | ConvolutionalArchitecture,
) -> None:
    model = build_latent_action_model(make_config(architecture, quantizer=WithheldConfig()))
    pair, other = make_pair(), make_pair(seed=1)
    output, elsewhere = model(pair), model(FramePair(current=pair.current, future=other.future))
    assert torch.equal(output.reconstruction, elsewhere.reconstruction)
    assert model.config.codebook_size == 0
    output.loss.backward()
    decoder, encoder = model.dynamics.forward_dynamics, model.dynamics.inverse_dynamics  # type: ignore[attr-defined]
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("quantizer", QUANTIZERS[3:], ids=lambda q: q.kind)
def test_without_a_codebook_there_are_no_codes_to_decode(quantizer: QuantizerConfig) -> None:
    model = build_latent_action_model(make_config(quantizer=quantizer)).eval()
    with pytest.raises(ConfigError, match=f"quantizer kind '{quantizer.kind}'"):
        model.decode(make_pair().current, torch.zeros(3, 4, dtype=torch.int64))


def test_encoding_counts_no_usage_and_repeats_exactly() -> None:
    model = build_latent_action_model(make_config()).eval()
    first, again = model.encode(make_pair()), model.encode(make_pair())
    assert torch.equal(first.codes, again.codes) and torch.equal(first.vectors, again.vectors)
    assert model.quantizer.pending_usage.sum() == 0


def test_a_causal_encoder_keeps_the_first_frame_from_seeing_the_second() -> None:
    def first_frame_changes(causal: bool) -> bool:
        architecture = TRANSFORMER.model_copy(update={"causal_temporal": causal})
        block = build_latent_action_model(make_config(architecture)).dynamics.inverse_dynamics.temporal[0]  # type: ignore[attr-defined]
        tokens = torch.randn(1, 16, 2, 32)
        changed = tokens.clone()
        changed[:, :, 1] += 1
        return not torch.allclose(block(changed)[:, :, 0], block(tokens)[:, :, 0])

    assert first_frame_changes(causal=False)
    assert not first_frame_changes(causal=True)


def test_the_decoder_sends_no_gradient_into_the_current_frames_tokens() -> None:
    model = build_latent_action_model(make_config())
    observed = model.dynamics.observe(torch.rand(2, 3, 32, 32))
    model.dynamics.predict(observed, torch.randn(2, 4, 8)).sum().backward()
    assert model.dynamics.patches.project.weight.grad is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.kind)
def test_a_saved_model_loads_and_names_changes_alike(tmp_path: Path, quantizer: QuantizerConfig) -> None:
    model = build_latent_action_model(make_config(quantizer=quantizer))
    model(make_pair())
    save_model(tmp_path, kind=LATENT_ACTION_KIND, config=model.config, state=model.state_dict())
    loaded = load_latent_action_model(str(tmp_path))
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(make_pair()).codes, model.eval().encode(make_pair()).codes)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path) -> None:
    other = build_latent_action_model(make_config(codes=2))
    save_model(tmp_path, kind=LATENT_ACTION_KIND, config=make_config(), state=other.state_dict())
    with pytest.raises(CheckpointMismatch):
        load_latent_action_model(str(tmp_path))


def test_the_full_size_model_builds_without_memory() -> None:
    with torch.device("meta"):
        model = build_latent_action_model(lapa_model())
    assert 343_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 346_000_000


@pytest.mark.slow  # importing transformers takes longer than all other tests here
@pytest.mark.parametrize("options", [{}, {"layer": 0, "relative": True, "residual": True}], ids=["last", "early"])
def test_a_feature_target_trains_against_a_frozen_encoder(tmp_path: Path, options: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    encoder = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    transformers.Dinov2Model(encoder).save_pretrained(tmp_path)
    config = make_config(CONVOLUTIONAL).model_copy(update={"target": FeatureTarget(encoder=str(tmp_path), **options)})
    model = build_latent_action_model(config)
    model(make_pair()).loss.backward()
    assert not any("encoder" in name for name in model.state_dict())
    assert model.quantizer.codebook.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.slow
def test_features_are_those_of_the_layer_and_their_relative_error_knows_no_scale(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    encoder = transformers.Dinov2Model(small)
    pair = torch.rand(3, 2, 3, 32, 32)

    def error(**options: Any) -> float:
        encoder.save_pretrained(tmp_path)
        target = FeatureTarget(encoder=str(tmp_path), pixel_weight=0, **options)
        return float(build_target(target)(*pair))

    assert len({error(), error(layer=0), error(layer=1), error(layer=-1)}) == 4  # the last one is normalized
    before, relative = error(layer=0), error(layer=0, relative=True)
    with torch.no_grad():
        for parameter in encoder.embeddings.parameters():
            parameter *= 10
    assert error(layer=0) == pytest.approx(100 * before, rel=1e-4)
    assert error(layer=0, relative=True) == pytest.approx(relative, rel=1e-4)
    with pytest.raises(ConfigError, match=r"laq\.model\.target\.layer=3 is no hidden state"):
        error(layer=3)


@pytest.mark.slow
def test_a_feature_encoder_out_of_reach_names_the_setting(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    target = FeatureTarget(encoder=str(tmp_path / "nowhere"))
    model = build_latent_action_model(make_config(CONVOLUTIONAL).model_copy(update={"target": target}))
    with pytest.raises(ConfigError, match=r"laq\.model\.target\.encoder"):
        model(make_pair())


def test_pictures_have_a_row_per_position_or_frame() -> None:
    model = build_latent_action_model(make_config(CONVOLUTIONAL, codes=2)).eval()
    pair = make_pair()
    tile = 32 + 2
    assert code_atlas(model, pair.current[0]).shape == (8 * tile, 9 * tile, 3)  # 8 x 8 codes, after the frame
    assert code_atlas(model, pair.current[0], limit=16).shape == (2 * tile, 9 * tile, 3)  # positions swept
    assert code_atlas(model, pair.current[0], codes=torch.tensor([[1, 2], [3, 4]])).shape == (tile, 3 * tile, 3)
    with torch.no_grad():
        assert reconstruction_grid(model(pair)).shape == (3 * tile, 3 * tile, 3)
