"""Plain torch, in one process."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lapa.config.training import FitConfig, OptimizerConfig, TorchEngineConfig
from lapa.errors import ConfigError
from lapa.training.distributed import Launch, Ranks
from lapa.training.state import StatefulEngine

logger = logging.getLogger(__name__)


class TorchEngine(StatefulEngine):
    """AdamW on fp32 weights, with bf16 autocast on request."""

    def __init__(
        self, build_model: Callable[[], nn.Module], config: TorchEngineConfig, fit: FitConfig, *, seed: int
    ) -> None:
        launch = Launch.from_environment()
        if launch.world_size > 1:
            raise ConfigError(
                f"The torch engine runs in one process, this launch has {launch.world_size} ranks. "
                "Set engine.kind=deepspeed, or start a single process."
            )
        super().__init__(fit, Ranks(launch))
        self.device = choose_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(seed)
        self.model = build_model().float().to(self.device).train()
        self.trainable = trainable_parameters(self.model)
        self.optimizer = build_adamw(self.trainable, fit.optimizer)
        for parameter in self.trainable:
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if self.device.type == "cuda" else None),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self.average = {} if fit.ema_decay is None else {id(p): p.detach().clone() for p in self.trainable}

    def run(self, *inputs: Any, method: str = "forward") -> Any:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fit.precision == "bf16"):
            return self.model(*inputs) if method == "forward" else getattr(self.model, method)(*inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        torch.autograd.backward(loss)

    def update(self) -> Tensor:
        for parameter in self.trainable:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        norm = nn.utils.clip_grad_norm_(self.trainable, self.fit.optimizer.clip_norm or float("inf"))
        for group in self.optimizer.param_groups:
            group["lr"] = self.next_learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        return norm

    def read(self, kind: str, name: str) -> Tensor:
        return self._stored(kind, name).detach().clone()

    def write(self, kind: str, name: str, value: Tensor) -> None:
        with torch.no_grad():
            self._stored(kind, name).copy_(value)

    def set_step(self, step: int) -> None:
        for parameter in self.trainable:
            self.optimizer.state[parameter]["step"].fill_(step)

    def close(self) -> None:
        """Nothing was joined."""

    def _stored(self, kind: str, name: str) -> Tensor:
        if kind == "buffers":
            return self.model.get_buffer(name)
        parameter = self.model.get_parameter(name)
        match kind:
            case "weights":
                return parameter
            case "average":
                return self.average[id(parameter)]
            case _:
                stored = self.optimizer.state[parameter][kind]
                assert isinstance(stored, Tensor)
                return stored

    def _average_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for parameter in self.trainable:
            yield parameter, self.average[id(parameter)]


def choose_device(wanted: str, *, local_rank: int = 0) -> torch.device:
    """The accelerator when `auto` finds one; ConfigError when `cuda` is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("engine.device=cuda, but torch sees no CUDA device. Set engine.device=auto or cpu.")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """In the order of their names' definition; ConfigError when everything is frozen."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ConfigError("Every parameter of the model is frozen: there is nothing to train. Unfreeze a part of it.")
    return trainable


def build_adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """Its learning rate is 0 until an update sets it: setting up an engine must not move weights."""
    return torch.optim.AdamW(
        parameters, lr=0.0, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
    )
