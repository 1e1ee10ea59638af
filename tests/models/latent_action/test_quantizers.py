"""Quantizers: gradients, counts, levels, and codes that come back to life."""

import math

import pytest
import torch

from lapa.config.latent_action import FsqConfig, NsvqConfig, VqEmaConfig
from lapa.models.latent_action.quantizers import FsqQuantizer, NsvqQuantizer, VqEmaQuantizer
from lapa.models.latent_action.revival import (
    is_published_revival_step,
    plan_published_revival,
    plan_revival,
    spread_sample,
)


def test_nsvq_gradients_reach_the_latents_and_only_the_chosen_codes() -> None:
    quantizer = NsvqQuantizer(NsvqConfig(codebook_size=4, width=6), codes_per_pair=2)
    with torch.no_grad():
        quantizer.codebook[3] = 100.0
    latents = torch.randn(5, 2, 6, requires_grad=True)
    quantized = quantizer(latents)
    quantized.vectors.square().sum().backward()
    assert latents.grad is not None and (latents.grad.abs().sum(-1) > 0).all()
    used = torch.bincount(quantized.codes.flatten(), minlength=4) > 0
    assert quantizer.codebook.grad is not None
    assert torch.equal(quantizer.codebook.grad.abs().sum(-1) > 0, used) and not used[3]


def test_nsvq_noise_is_as_long_as_the_quantization_error() -> None:
    quantizer = NsvqQuantizer(NsvqConfig(width=6), codes_per_pair=2)
    latents = torch.randn(5, 2, 6)
    quantized = quantizer(latents)
    error = (latents - quantizer.vectors_of(quantized.codes)).norm(dim=-1)
    torch.testing.assert_close((quantized.vectors - latents).norm(dim=-1), error)


def test_nsvq_has_a_finite_gradient_where_a_latent_is_exactly_a_code() -> None:
    """So it starts when the codebook is drawn from the first batch."""
    quantizer = NsvqQuantizer(NsvqConfig(width=6), codes_per_pair=1)
    latents = quantizer.codebook.detach()[:, None].clone().requires_grad_()
    quantizer(latents).vectors.sum().backward()
    assert latents.grad is not None and torch.isfinite(latents.grad).all()
    assert quantizer.codebook.grad is not None and torch.isfinite(quantizer.codebook.grad).all()


def test_usage_counts_every_token_at_its_position() -> None:
    quantizer = NsvqQuantizer(NsvqConfig(codebook_size=3, width=2), codes_per_pair=2)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    latents = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    quantizer(latents)
    quantizer(latents)
    assert quantizer.pending_usage.tolist() == [[4, 0, 0], [0, 2, 2]]


def test_evaluation_counts_nothing_and_returns_the_codes_own_vectors() -> None:
    quantizer = NsvqQuantizer(NsvqConfig(width=6), codes_per_pair=2).eval()
    quantized = quantizer(torch.randn(5, 2, 6))
    assert torch.equal(quantized.vectors, quantizer.vectors_of(quantized.codes))
    assert quantizer.pending_usage.sum() == 0


def test_the_running_codebook_converges_to_the_means_of_what_it_names() -> None:
    quantizer = VqEmaQuantizer(VqEmaConfig(codebook_size=2, width=2, decay=0.8), codes_per_pair=1)
    centres = torch.tensor([[3.0, 0.0], [-3.0, 0.0]])
    quantizer.codebook.copy_(centres / 3)
    for _ in range(60):
        names = torch.randint(2, (64,))
        quantizer(centres[names][:, None] + 0.1 * torch.randn(64, 1, 2))
        counts = quantizer.pending_usage.sum(0)
        quantizer.absorb(counts, quantizer.pending_sum)
        quantizer.pending_usage.zero_()
        quantizer.pending_sum.zero_()
    torch.testing.assert_close(quantizer.codebook, centres, atol=0.1, rtol=0)


@pytest.mark.parametrize("levels", [(4, 2), (8, 8), (5, 3, 2)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_fsq_uses_all_levels_whatever_the_scale_of_its_latents(levels: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    quantizer = FsqQuantizer(FsqConfig(levels=levels), codes_per_pair=2)
    quantized = quantizer(scale * torch.randn(4000, 2, 32))
    assert len(quantized.codes.unique()) == quantizer.codebook_size == math.prod(levels)
    assert torch.equal(quantized.codes.amax() + 1, torch.tensor(math.prod(levels)))


def test_fsq_codes_decode_to_what_the_decoder_saw() -> None:
    quantizer = FsqQuantizer(FsqConfig(levels=(5, 4)), codes_per_pair=2).eval()
    quantized = quantizer(torch.randn(50, 2, 32))
    torch.testing.assert_close(quantizer.vectors_of(quantized.codes), quantized.vectors)


def test_fsq_gradients_reach_the_latents() -> None:
    latents = torch.randn(8, 2, 32, requires_grad=True)
    FsqQuantizer(FsqConfig(), codes_per_pair=2)(latents).vectors.square().sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


def test_revival_moves_the_unused_codes_and_only_those_onto_latents() -> None:
    latents = torch.randn(100, 3)
    codebook = 10 * torch.ones(4, 3)
    plan = plan_revival(torch.tensor([50, 1, 49, 0]), latents, codebook, min_share=0.02)
    assert plan.rows.tolist() == [1, 3]
    assert torch.cdist(plan.values, latents).amin(1).max() < 0.2


def test_revival_changes_nothing_in_a_healthy_codebook() -> None:
    plan = plan_revival(torch.tensor([5, 5]), torch.randn(9, 3), torch.randn(2, 3), min_share=0.02)
    assert len(plan.rows) == len(plan.values) == 0


def test_revived_codes_differ_even_when_all_latents_coincide() -> None:
    values = spread_sample(torch.ones(10, 3), 4)
    assert torch.cdist(values, values).fill_diagonal_(1).min() > 0


def test_a_spread_sample_finds_every_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(6)
    latents = centres.repeat(30, 1) + 0.1 * torch.randn(180, 6, generator=generator)
    values = spread_sample(latents, 6, generator=generator)
    assert sorted(torch.cdist(values, centres).argmin(1).tolist()) == list(range(6))


def test_the_published_revival_copies_codes_in_use_and_stops_after_4500() -> None:
    codebook = torch.arange(8.0)[:, None].repeat(1, 2)
    used = torch.tensor([20, 0, 0, 0, 20, 0, 0, 0])
    plan = plan_published_revival(used, codebook, batch_size=64, min_share=0.1)
    assert plan.rows.tolist() == [1, 2, 3, 5, 6, 7]
    assert set(plan.values[:, 0].round().tolist()) <= {0.0, 4.0}
    steps = [step for step in range(10_000) if is_published_revival_step(step)]
    assert steps == [*range(10, 100, 10), *range(100, 1000, 100), *range(1000, 5000, 500)]


def test_the_published_revival_leaves_a_wholly_unused_codebook_alone() -> None:
    plan = plan_published_revival(torch.zeros(4, dtype=torch.int64), torch.randn(4, 2), batch_size=64, min_share=0.1)
    assert len(plan.rows) == 0
