"""The learning rate of each update, as a function of its number."""

import math
from typing import assert_never

from lapa.config.training import ConstantSchedule, CosineSchedule, ScheduleConfig


def learning_rate_share(schedule: ScheduleConfig, step: int, *, steps: int) -> float:
    """Share of the full learning rate that update number `step` uses; counted from 0, of `steps` in all.

    Warm-up is linear and never zero: update 0 of w warm-up updates uses 1 / w.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    match schedule:
        case ConstantSchedule():
            return 1.0
        case CosineSchedule():
            progress = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
            falling = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
            return schedule.final_share + (1 - schedule.final_share) * falling
        case _:
            assert_never(schedule)
