"""From a simulator's settings to the simulator."""

from typing import assert_never

from lapa.config.stages import MetaWorldEvaluation, SimulatorConfig, TabletopEvaluation
from lapa.envs.metaworld.simulator import MetaWorldSimulator
from lapa.envs.simulator import Simulator
from lapa.envs.tabletop.simulator import TabletopSimulator


def build_simulator(config: SimulatorConfig, *, image_size: int) -> Simulator:
    """The simulator, its frames `image_size` pixels square."""
    match config:
        case TabletopEvaluation():
            return TabletopSimulator(config, image_size)
        case MetaWorldEvaluation():
            return MetaWorldSimulator(config=config, image_size=image_size)
        case _:
            assert_never(config)
