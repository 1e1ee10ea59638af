"""What one machine does in a second of what `lapactl plan` counts of a model: the rates of its time model."""

from collections.abc import Callable
from typing import Any

import torch

from lapa.stages.footprint import Traffic


def memory(device: torch.device, side: int, *, times: int = 1) -> tuple[Callable[[], Any], float]:
    """Forward and backward through what a transformer has between its products, `times` times; and its bytes."""
    found = torch.randn(side, side, device=device, requires_grad=True)

    def block() -> None:
        for _ in range(times):
            normal = torch.nn.functional.layer_norm(found, (side,))
            torch.nn.functional.gelu(normal * found).softmax(dim=1).mean().backward()  # type: ignore[no-untyped-call]
            found.grad = None

    with Traffic() as counted:
        block()
    return block, float(counted.moved)


def calls(device: torch.device) -> tuple[Callable[[], Any], float]:
    """Forward and backward through layers in which there is nothing to do but to call them; and how many calls."""
    layers = [torch.nn.LayerNorm(4), torch.nn.Linear(4, 4), torch.nn.GELU()] * 20
    model = torch.nn.Sequential(*layers).to(device)
    found = torch.ones(2, 4, device=device)

    def step() -> None:
        model(found).mean().backward()
        model.zero_grad(set_to_none=True)

    with Traffic() as counted:
        step()
    return step, float(counted.calls)
