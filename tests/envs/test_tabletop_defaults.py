"""With its default settings the tabletop is, bit for bit, the one that published results were made on."""

import hashlib

import numpy as np
import pytest

from lapa.config.data import TabletopSource
from lapa.config.stages import TabletopEvaluation
from lapa.envs.evaluation import expert_results
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.recording import successful_rollout
from lapa.envs.tabletop.simulator import TabletopSimulator

VIDEOS = ["d7420473c47bea1d", "0ed49c8d27c7ccf6", "b12ca98845531ab0", "be7ae670a769b9e2", "f424be186ff1b398"]
DEMONSTRATIONS = ["7255deceb90cd25f", "99ddba71912e3eb5", "90f2cb3dc4618690", "70ce640d3f03bd05", "7f40333935cd9d04"]
STARTS = ["ae88fd46f7856ad4", "2aed87052c748e71", "87c77f51115f5bc9", "35f2a3b46d0ea727", "e721875e7d11ecde"]


def fingerprint(*parts: str | np.ndarray) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode() if isinstance(part, str) else part.tobytes())
    return hashed.hexdigest()[:16]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TabletopSource(record="videos", episodes=5), VIDEOS),
        (TabletopSource(record="demonstrations", episodes=5, seed=1_000_000), DEMONSTRATIONS),
    ],
    ids=["videos", "demonstrations"],
)
def test_recorded_frames_and_actions(source: TabletopSource, expected: list[str]):
    found = []
    for index in range(5):
        rollout, attempts = successful_rollout(source, index)
        frames = np.stack([draw(state, 48) for state in rollout.states])
        found.append(fingerprint(rollout.start.instruction, str(attempts), rollout.actions, frames))
    assert found == expected


def test_tables_of_evaluation():
    simulator = TabletopSimulator(TabletopEvaluation())
    for index, expected in enumerate(STARTS):
        episode = simulator.episode(index)
        state = episode.state
        found = fingerprint(episode.instruction, state.pusher, state.blocks, state.angles, episode.image)
        assert found == expected


def test_the_oracle_on_the_tables_of_evaluation():
    results = expert_results(TabletopSimulator(TabletopEvaluation(episodes=180)))
    assert fingerprint(results.steps, results.success) == "dd804f9b9104b944"
