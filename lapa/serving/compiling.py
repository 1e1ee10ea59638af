"""A policy whose backbone is compiled before the first robot asks, and served as it is where that fails."""

import logging
from collections.abc import Callable

import torch

from lapa.policy.policy import Policy

logger = logging.getLogger(__name__)


def compile_policy(policy: Policy, warm_up: Callable[[], None]) -> bool:
    """Compile the backbone and let `warm_up` run it; whether that went well.

    Without a compiler, or where the model cannot be compiled, the policy is as before: slower, and the log says why.
    """
    modules = policy.model.backbone.compilable()
    if not modules:
        logger.warning(
            "event=not_compiled error=%r message='served without torch.compile, as fast as before; "
            "set compiled=false'", f"nothing in {type(policy.model.backbone).__name__} is known to compile",
        )  # fmt: skip
        return False
    try:
        for module in modules:
            # Robots come and go: a batch of another size must not be compiled for anew.
            module.compile(dynamic=True)
        warm_up()
    # What a backend raises is of no one class: inductor's own, the C++ compiler's, triton's.
    except Exception as error:
        for module in modules:
            module._compiled_call_impl = None  # what `Module.compile` set
        torch.compiler.reset()
        logger.error(
            "event=not_compiled error=%r message='served without torch.compile, as fast as before. One cause is a "
            "missing compiler: C++ on CPUs, C and the headers of Python on GPUs (docs/guide-images.md). Or set "
            "compiled=false'", _first_line(error),
        )  # fmt: skip
        return False
    # What the warm-up did not meet runs as it is: a robot never waits for a compiler. It holds for the whole process.
    torch.compiler.set_stance("eager_on_recompile")
    return True


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
