"""Stages that no profile looks at. Apart from `lapa.stages.profiled`, since they do without torch."""

import logging

from lapa.stages.context import Stage

logger = logging.getLogger(__name__)


def remark_unprofiled(stage: Stage) -> None:
    """Say that the switch does nothing where a stage's work is done by processes of its own."""
    if not stage.run.profile.steps:
        return
    stage.remarks.append(
        f"profile.steps={stage.run.profile.steps} has no effect on stage '{stage.name}', which works in processes of "
        "its own: profiles are made of laq, label, pretrain and finetune."
    )
    logger.warning(stage.remarks[-1])
