"""Frame pairs whose codes mean what a test wants them to."""

from collections.abc import Callable

import numpy as np
import pytest

from lapa.analysis.latents import Encoded, Pairs
from lapa.analysis.records import Source
from lapa.data.dataset import Dataset
from tests.builders import make_dataset

EPISODES, LENGTH = 20, 40
CODEBOOK_SIZE = 8
EncodedOf = Callable[..., Encoded]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Pictures for the made-up pairs."""
    folder = tmp_path_factory.mktemp("analysis") / "dataset"
    return Dataset.open(make_dataset(folder, episodes=EPISODES, frames=LENGTH + 1, image_size=16))


@pytest.fixture
def encoded_of(dataset: Dataset) -> EncodedOf:
    """`codes` m k in order of episodes of `LENGTH` pairs each; what else is known of the pairs, or nothing."""

    def build(
        codes: np.ndarray,
        *,
        actions: np.ndarray | None = None,
        vectors: np.ndarray | None = None,
        camera: np.ndarray | None = None,
    ) -> Encoded:
        row = np.repeat(np.arange(EPISODES), LENGTH)
        pairs = Pairs(
            codes=codes,
            vectors=np.zeros((len(codes), 2)) if vectors is None else vectors,
            row=row,
            timestep=np.tile(np.arange(LENGTH), EPISODES),
            camera=np.zeros((len(codes), 3)) if camera is None else camera,
            motion={} if actions is None else {"actions": actions},
        )
        names = {} if actions is None else {"actions": tuple(f"a{i}" for i in range(actions.shape[1]))}
        return Encoded(
            source=Source(url=dataset.url, digest=dataset.revision, name="made up"),
            dataset=dataset,
            window_seconds=0.1,
            codebook_size=CODEBOOK_SIZE,
            pairs=pairs,
            fit_rows=np.arange(0, 14),
            scored_rows=np.arange(14, 20),
            names=names,
        )

    return build


@pytest.fixture
def pairs_count() -> int:
    return EPISODES * LENGTH
