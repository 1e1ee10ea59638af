"""What the study measures can be done: the oracle on the very episodes that policies are tested on."""

import numpy as np
import pytest

from lapa.bench.settings import SETTINGS
from lapa.bench.study import Study, arms_of
from lapa.config.stages import TabletopEvaluation
from lapa.config.tabletop import ALL_KINDS
from lapa.envs.evaluation import expert_results
from lapa.envs.tabletop.simulator import TabletopSimulator


@pytest.mark.slow
@pytest.mark.parametrize("setting", list(SETTINGS))
def test_the_oracle_does_every_kind_of_task_on_the_test_tables_of_every_setting(setting: str) -> None:
    [arm] = arms_of(Study(size="small", seeds=1, settings=(setting,), methods=("scratch",)))
    assert arm.run.evaluate is not None and isinstance(arm.run.evaluate.simulator, TabletopEvaluation)
    results = expert_results(TabletopSimulator(arm.run.evaluate.simulator), workers=1)
    kinds = np.array(results.kinds)
    rates = {kind: float(results.success[kinds == kind].mean()) for kind in ALL_KINDS}
    assert min(rates.values()) > 0.95, rates
