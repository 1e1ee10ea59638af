"""How a share is cut into micro batches, and that nothing but the order of sums follows from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lapa.config.training import TorchEngineConfig
from lapa.models.randomness import drawing_for_samples, sample_normal
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import Engine, build_engine
from lapa.training.fit import fit
from lapa.training.micro_batches import micro_batches
from lapa.types.batches import Batch
from tests.training.toy import Losses, ToyModel, ToyTask, fit_config, global_batch, held_out, stream


class ByTimestep(ToyTask):
    """Samples are as long as their timestep is late."""

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        return batch.timestep.tolist()


def test_samples_of_like_length_go_together_and_the_longest_first() -> None:
    batch = global_batch(0)
    pieces = micro_batches(batch, 3, [5, 9, 5, 2, 9, 5, 1, 9])
    assert [list(piece.places) for piece in pieces] == [[1, 4, 7], [0, 2, 5], [3, 6]]
    for piece in pieces:
        places = list(piece.places)
        assert torch.equal(piece.batch.current, batch.current[places])
        assert torch.equal(piece.batch.timestep, batch.timestep[places])
        assert piece.batch.instructions == tuple(batch.instructions[place] for place in places)


@pytest.mark.parametrize("lengths", [None, [4] * 8])
def test_samples_of_one_length_keep_their_order(lengths: list[int] | None) -> None:
    pieces = micro_batches(global_batch(0), 3, lengths)
    assert [list(piece.places) for piece in pieces] == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize("size", [None, 8, 100])
def test_a_share_that_goes_through_at_once_is_left_as_it_is(size: int | None) -> None:
    batch = global_batch(0)
    (piece,) = micro_batches(batch, size, list(range(8)))
    assert piece.batch is batch and list(piece.places) == list(range(8))


class AskedForNothing(ToyTask):
    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        raise AssertionError("lengths of a share that is not cut")


@pytest.mark.parametrize("size", [None, 8])
def test_lengths_are_asked_for_only_where_a_share_is_cut(tmp_path: Path, size: int | None) -> None:
    assert list(trained(tmp_path, AskedForNothing(), steps=1, micro_batch_size=size)) == [1]


def test_a_sample_s_noise_follows_its_place_in_the_global_batch() -> None:
    device = torch.device("cpu")
    with drawing_for_samples(3, places=range(8), total=8):
        whole = sample_normal((8, 5), device=device), sample_normal((2, 8), device=device, axis=1)
    with drawing_for_samples(3, places=[6, 1, 4], total=8):
        own = sample_normal((3, 5), device=device), sample_normal((2, 3), device=device, axis=1)
    assert torch.equal(own[0], whole[0][[6, 1, 4]]) and torch.equal(own[1], whole[1][:, [6, 1, 4]])


def test_sorting_by_length_changes_no_loss_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", ToyTask(), steps=6)
    trained(tmp_path / "cut", ByTimestep(), steps=3, micro_batch_size=3)
    cut = trained(tmp_path / "cut", ByTimestep(), steps=6, micro_batch_size=3)
    assert list(cut) == [4, 5, 6]
    assert cut == pytest.approx({step: whole[step] for step in cut}, rel=1e-5)


def trained(folder: Path, task: ToyTask, **changes: Any) -> dict[int, float]:
    config, losses = fit_config(**changes), Losses()
    engine = build_engine(lambda: ToyModel(noise=0.1), TorchEngineConfig(), config, seed=5)
    fit(task, engine, stream(), held_out, config, Checkpoints(str(folder), 2, {}), [losses], seed=5)
    return losses.values
