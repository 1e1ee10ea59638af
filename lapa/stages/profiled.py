"""The profiler switch of a stage: `--set profile.steps=10`."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lapa import files
from lapa.stages.context import Stage
from lapa.training.profiling import ProfileHook

logger = logging.getLogger(__name__)

PROFILE_FOLDER = "profile"


@contextmanager
def profiled(stage: Stage, device: torch.device) -> Iterator[list[ProfileHook]]:
    """A hook to tell of updates, where the run asks for a profile; of the main rank, which waits like all others.

    The trace lies in the stage's folder; what limits the run is a remark of its result.
    """
    if not stage.run.profile.steps or not stage.is_main:
        yield []
        return
    url = files.join(stage.folder, PROFILE_FOLDER)
    with tempfile.TemporaryDirectory(prefix="lapa-profile-") as scratch:
        hook = ProfileHook(
            steps=stage.run.profile.steps,
            after=stage.run.profile.after,
            device=device,
            tracker=stage.tracker,
            keep=lambda trace: files.upload(trace.parent, url),
            scratch=Path(scratch),
        )
        try:
            yield [hook]
        finally:
            hook.close()
    if hook.line is None:
        stage.remarks.append("Nothing was profiled: the stage made fewer updates than profile.after lets pass.")
        logger.warning(stage.remarks[-1])
    else:
        stage.remarks.append(f"Profile: {hook.line}. Trace, for Perfetto or chrome://tracing: {url}")
