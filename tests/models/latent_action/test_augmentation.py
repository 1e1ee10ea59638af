"""Augmentation changes what no action changes, and nothing else."""

import torch

from lapa.config.stages import FrameAugmentation
from lapa.models.latent_action.augmentation import augment
from lapa.types.batches import FramePair


def pair_of(size: int = 16, pairs: int = 8) -> FramePair:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(50, 200, (2, pairs, 3, size, size), dtype=torch.uint8, generator=generator)
    return FramePair(current=first, future=second)


def test_a_shift_is_the_same_for_both_frames_and_all_views() -> None:
    pair = FramePair(current=pair_of().current, future=pair_of().current)
    augmented = augment(pair, FrameAugmentation(shift=0.25))
    assert augmented.seen is augmented.told
    assert torch.equal(augmented.told.current, augmented.told.future)
    moved = [i for i in range(8) if not torch.equal(augmented.told.current[i], pair.current[i])]
    assert len(moved) >= 6
    for place in moved:  # some whole-pixel translation of at most 4 gives it, inside the edges
        middle = augmented.told.current[place, :, 4:12, 4:12]
        offsets = [(r, c) for r in range(-4, 5) for c in range(-4, 5)]
        assert any(torch.equal(middle, pair.current[place, :, 4 + r : 12 + r, 4 + c : 12 + c]) for r, c in offsets)


def test_brightness_changes_only_what_the_encoder_sees_and_differs_between_its_frames() -> None:
    pair = pair_of()
    augmented = augment(pair, FrameAugmentation(brightness=0.2))
    assert torch.equal(augmented.told.current, pair.current) and torch.equal(augmented.told.future, pair.future)
    factors = []
    for seen, told in ((augmented.seen.current, pair.current), (augmented.seen.future, pair.future)):
        ratio = seen.float() / told.float()
        assert ratio.amin() >= 0.8 - 0.02 and ratio.amax() <= 1.2 + 0.02
        assert ratio.flatten(1).std(1).max() < 0.01  # one factor per frame, up to rounding
        factors.append(ratio.mean((1, 2, 3)))
    assert (factors[0] - factors[1]).abs().mean() > 0.02
    assert factors[0].std() > 0.02


def test_the_step_s_seed_repeats_the_draw() -> None:
    config = FrameAugmentation(shift=0.2, brightness=0.3)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(pair_of(), config).seen.current)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
