"""Building a model whose parameters DeepSpeed keeps in parts (ZeRO stage 3), so that no rank ever holds it whole.

The engine says so around the construction; the code that builds large networks asks. Nothing here imports
DeepSpeed unless an engine that runs on it is building.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_settings: ContextVar[Mapping[str, Any] | None] = ContextVar("partitioning", default=None)


@contextmanager
def in_parts(settings: Mapping[str, Any]) -> Iterator[None]:
    """Inside, networks that know how are built in parts, under these DeepSpeed settings. Every rank must build."""
    token = _settings.set(settings)
    try:
        yield
    finally:
        _settings.reset(token)


@contextmanager
def transformers_in_parts() -> Iterator[bool]:
    """Inside, models of the transformers library are created and loaded in parts, where the engine wants that.

    Yields whether it does. Collective if so: rank 0 reads or draws the weights, the others receive their parts.
    """
    settings = _settings.get()
    if settings is None:
        yield False
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    # The library keeps a weak reference and partitions for as long as this object lives.
    alive = HfDeepSpeedConfig(dict(settings))
    try:
        yield True
    finally:
        unset_hf_deepspeed_config()
        del alive


def full_shape(tensor: Tensor) -> torch.Size:
    """The shape of the whole tensor, whether or not it is in parts."""
    return torch.Size(getattr(tensor, "ds_shape", tensor.shape))


@torch.no_grad()
def overwrite(tensor: Tensor, read: Callable[[], Tensor]) -> None:
    """Replace a parameter or buffer by what `read` returns. Collective where it is in parts: rank 0 reads then."""
    if not hasattr(tensor, "ds_shape"):
        tensor.copy_(read())
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([tensor], modifier_rank=0):
        if dist.get_rank() == 0:
            tensor.copy_(read())
