"""At a lower rate an action does what the ones it stands for did together."""

import numpy as np
import pytest

from lapa.config.conventions import Conventions, DimensionConvention
from lapa.config.data import IngestConfig, LeRobotSource
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.ingest import ingest
from lapa.data.resample import check_thinning, stride_of, thinned_actions
from lapa.errors import ConfigError
from tests.data.sources import write_lerobot

DIMENSIONS = (
    DimensionConvention(name="delta", unit="m", mode="delta"),
    DimensionConvention(name="velocity", unit="m/s", mode="velocity"),
    DimensionConvention(name="target", unit="rad", mode="absolute"),
    DimensionConvention(name="gripper", mode="delta", open=1, closed=-1),
)


def test_deltas_add_up_velocities_are_averaged_and_the_last_target_counts():
    actions = np.repeat(np.arange(1, 6, dtype=np.float32)[:, None], 4, axis=1)
    thinned = thinned_actions(actions, 2, DIMENSIONS)
    np.testing.assert_array_equal(thinned, [[3, 1.5, 2, 2], [7, 3.5, 4, 4], [5, 5, 5, 5]])


def test_a_lower_rate_reaches_the_dataset_with_frames_states_and_actions_in_step(tmp_path):
    source = LeRobotSource(url=str(write_lerobot(tmp_path / "robot", [7, 7])))
    meaning = tuple(DimensionConvention(name=f"joint_{i}", unit="deg", mode="delta") for i in range(3))
    config = IngestConfig(
        source=source, fps=5, image_size=32, workers=1, conventions=Conventions(actions=meaning, control_hz=10)
    )
    ingest(config, str(tmp_path / "out"))
    dataset = Dataset.open(str(tmp_path / "out"))
    assert (dataset.info.fps, dataset.info.conventions.control_hz) == ((5.0,), 5.0)
    arrays = episode_arrays(dataset, 1)  # at 10 fps: actions (episode, timestep, 0), states (timestep, -timestep)
    assert arrays["actions"].tolist() == [[2, 1, 0], [2, 5, 0], [2, 9, 0], [1, 6, 0]]
    assert arrays["proprioception"][:, 0].tolist() == [0, 2, 4, 6]
    assert dataset.index["num_frames"].to_pylist() == [4, 4]


def test_rates_that_do_not_divide_are_refused_with_rates_that_do():
    assert stride_of(29.97, 10, source="x") == 3
    with pytest.raises(ConfigError, match=r"fps=4 is no whole part .* Set fps=5 or fps=3.33"):
        stride_of(10, 4, source="x")


@pytest.mark.parametrize(
    ("dimension", "why"),
    [
        (DimensionConvention(name="x"), "whether x is absolute, a delta or a velocity is not known"),
        (DimensionConvention(name="x", unit="normalized", mode="delta"), "two of those cannot be added"),
    ],
)
def test_what_several_actions_do_together_must_be_known(dimension, why):
    with pytest.raises(ConfigError, match=why):
        check_thinning((dimension,), 1, source="x")
    with pytest.raises(ConfigError, match="tells of 0 dimensions, and they have 1"):
        check_thinning((), 1, source="x")
