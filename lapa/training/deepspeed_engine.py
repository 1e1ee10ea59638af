"""DeepSpeed ZeRO over all ranks of a torchrun launch."""

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lapa.config.training import DeepSpeedEngineConfig, FitConfig
from lapa.models.partitioning import in_parts
from lapa.training.deepspeed_setup import deepspeed_config, import_deepspeed, join_ranks, leave_norm_on_device
from lapa.training.distributed import Launch, Ranks
from lapa.training.state import MOMENTS, StatefulEngine
from lapa.training.torch_engine import build_adamw, choose_device, trainable_parameters

logger = logging.getLogger(__name__)


class Root(nn.Module):
    """What DeepSpeed wraps: lets any method of the model run inside DeepSpeed's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *inputs: Any) -> Any:
        return self.model(*inputs) if method == "forward" else getattr(self.model, method)(*inputs)


class DeepSpeedEngine(StatefulEngine):
    """Torch's AdamW under ZeRO stage 0 to 3: the same numbers as the torch engine, up to rounding.

    Under stage 3 `model`'s parameters are empty between calls; read them with `gathered`.
    """

    def __init__(
        self, build_model: Callable[[], nn.Module], config: DeepSpeedEngineConfig, fit: FitConfig, *, seed: int
    ) -> None:
        launch = Launch.from_environment()
        self.device = choose_device(config.device, local_rank=launch.local_rank)
        self.deepspeed = import_deepspeed(self.device)
        join_ranks(self.deepspeed, self.device, launch)
        super().__init__(fit, Ranks(launch))
        if config.threads:
            torch.set_num_threads(config.threads)
        self.stage = config.zero_stage
        self.settings = deepspeed_config(config, fit, world_size=self.world_size, on_gpu=self.device.type == "cuda")
        # From one seed on every rank. Under stage 3 a large backbone builds itself in parts; everything else is
        # built whole and partitioned after: under zero.Init, code that is not made for it finds empty weights.
        torch.manual_seed(seed)
        with in_parts(self.settings) if self.stage == 3 else nullcontext():
            self.model = build_model().float().train()
        trainable_parameters(self.model)
        self.wrapped, *_ = self.deepspeed.initialize(
            model=Root(self.model),
            optimizer=build_adamw(trainable_parameters(self.model), fit.optimizer),
            config=self.settings,
        )
        if self.stage:
            leave_norm_on_device(self.wrapped.optimizer)
        self.trainable = trainable_parameters(self.model)
        self._prepare_moments()
        self.average = {} if fit.ema_decay is None else {id(p): self._part(p).clone() for p in self.trainable}

    def run(self, *inputs: Any, method: str = "forward") -> Any:
        return self.wrapped(method, *inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        self.wrapped.set_gradient_accumulation_boundary(last)
        self.wrapped.backward(loss, scale_wrt_gas=False)
        if not last:
            self.wrapped.step()

    def update(self) -> Tensor | float:
        norm: Tensor | float | None = None
        if self.stage == 0:
            norm = nn.utils.clip_grad_norm_(self.trainable, self.fit.optimizer.clip_norm or float("inf"))
        for group in self.wrapped.optimizer.param_groups:
            group["lr"] = self.next_learning_rate()
        self.wrapped.step()
        if self.stage == 3:
            # DeepSpeed would use a parameter's last gradient again in an update where it has none.
            self.wrapped.optimizer.grad_partitions_flat_buffer.zero_()
        self.step += 1
        self._update_average()
        return self.wrapped.get_global_grad_norm() if norm is None else norm

    def read(self, kind: str, name: str) -> Tensor:
        if kind == "buffers":
            return self.broadcast(self.model.get_buffer(name).detach()).clone()
        parameter = self.model.get_parameter(name)
        match kind:
            case "weights":
                return self._whole(parameter)
            case "average":
                return self._assembled(parameter, self.average[id(parameter)])
            case _:
                return self._moment(parameter, kind).to(self.device)

    def own_part(self, kind: str, name: str, *, is_keeper: bool) -> tuple[int, Tensor] | None:
        """Under stage 3 every rank keeps its own part, and nothing is gathered."""
        if self.stage < 3 or kind == "buffers":
            return super().own_part(kind, name, is_keeper=is_keeper)
        parameter: Any = self.model.get_parameter(name)
        start = parameter.ds_tensor.numel() * self.rank
        count = min(parameter.ds_tensor.numel(), parameter.ds_numel - start)
        if count <= 0:
            return None  # all padding
        part = self._state_part(parameter, kind)
        return start, part.detach().flatten()[:count].to("cpu", copy=True)

    def write(self, kind: str, name: str, value: Tensor) -> None:
        if kind == "buffers":
            self.model.get_buffer(name).copy_(value)
            return
        parameter = self.model.get_parameter(name)
        value = value.to(self.device)
        match kind:
            case "weights":
                self._set_weights(parameter, value)
            case "average":
                self._copy_part(self.average[id(parameter)], parameter, value)
            case _ if self.stage == 0:
                self._state_of(parameter)[kind].copy_(value)
            case _ if self.stage == 3:
                # The setter for whole tensors fails where the last rank's part is padded.
                part = self._padded_part(parameter, value)
                self.deepspeed.utils.safe_set_local_optimizer_state(parameter, part, kind)
            case _:
                self.deepspeed.utils.safe_set_full_optimizer_state(parameter, value, kind)

    def set_step(self, step: int) -> None:
        for state in self._inner.state.values():
            state["step"].fill_(step)

    def close(self) -> None:
        self.wrapped.destroy()
        if dist.is_initialized():
            self.deepspeed.comm.destroy_process_group()  # which forgets its own groups, unlike torch's

    @property
    def _inner(self) -> torch.optim.AdamW:
        """Torch's optimizer, inside DeepSpeed's."""
        inner: torch.optim.AdamW = self.wrapped.optimizer if self.stage == 0 else self.wrapped.optimizer.optimizer
        return inner

    def _prepare_moments(self) -> None:
        """Create AdamW's state now instead of in the first step, so that it can be read and restored."""
        zero = self.wrapped.optimizer
        match self.stage:
            case 0:
                tensors = list(self.trainable)
            case 1 | 2:
                tensors = list(zero.single_partition_of_fp32_groups)
            case _:
                tensors = list(zero.fp32_partitioned_groups_flat)
        for tensor in tensors:
            on_device = tensor.device if tensor.device.type == "cuda" else None
            moments = {moment: torch.zeros_like(tensor, requires_grad=False) for moment in MOMENTS}
            self._inner.state[tensor] = {"step": torch.zeros((), device=on_device), **moments}
        if self.stage in (1, 2):
            zero._lazy_init_hp_params_optimizer_state()

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._inner.state[parameter]
        return state

    def _moment(self, parameter: nn.Parameter, kind: str) -> Tensor:
        if self.stage == 0:
            return self._state_of(parameter)[kind].clone()
        value: Tensor = self.deepspeed.utils.safe_get_full_optimizer_state(parameter, kind)
        return value.clone()

    def _whole(self, parameter: Any) -> Tensor:
        # The fp32 parts, not what DeepSpeed gathers: under autocast that is bf16.
        return self._assembled(parameter, self._part(parameter))

    def _set_weights(self, parameter: Any, value: Tensor) -> None:
        if self.stage < 3:
            parameter.data.copy_(value)
            if self.stage and parameter.requires_grad:
                self.deepspeed.utils.safe_set_full_fp32_param(parameter, value)
            return
        self._release(parameter)
        self._copy_part(parameter.ds_tensor.data, parameter, value)
        if parameter.requires_grad:
            part = self._padded_part(parameter, value)
            self.deepspeed.utils.safe_set_local_fp32_param(parameter, part)
        self._hold(parameter)

    def _part(self, parameter: Any) -> Tensor:
        """This rank's part of the weights: all of them below stage 3."""
        part: Tensor = parameter.data if self.stage < 3 else parameter.ds_tensor.data
        return part

    def _copy_part(self, part: Tensor, parameter: Any, value: Tensor) -> None:
        """Copy this rank's part of a whole tensor."""
        part.copy_(value if self.stage < 3 else self._padded_part(parameter, value))

    def _padded_part(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's part of a whole tensor under stage 3; the last ranks' parts end in zeros."""
        size = parameter.ds_tensor.numel()
        mine = value.flatten()[size * self.rank : size * (self.rank + 1)]
        return nn.functional.pad(mine, (0, size - mine.numel()))

    def _assembled(self, parameter: Any, part: Tensor) -> Tensor:
        if self.stage < 3:
            return part.clone()
        parts = [torch.empty_like(part) for _ in range(self.world_size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat([part.view(-1) for part in parts])[: parameter.ds_numel].view(parameter.ds_shape)

    def _state_part(self, parameter: Any, kind: str) -> Tensor:
        """This rank's part of one kind of state under stage 3."""
        match kind:
            case "weights":
                return self._part(parameter)
            case "average":
                return self.average[id(parameter)]
            case _:
                part: Tensor = self.deepspeed.utils.safe_get_local_optimizer_state(parameter, kind)
                return part

    def _average_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for parameter in self.trainable:
            yield self._part(parameter), self.average[id(parameter)]

    def _swap_average(self) -> None:
        if self.stage < 3:
            super()._swap_average()
            return
        for parameter in self.trainable:
            self._release(parameter)
        super()._swap_average()
        for parameter in self.trainable:
            self._hold(parameter)

    def _release(self, parameter: Any) -> None:
        """Keep only this rank's part, so that changing the parts changes the parameter."""
        if parameter.ds_status.name == "AVAILABLE":
            parameter.partition([parameter])

    def _hold(self, parameter: Any) -> None:
        """Parameters that DeepSpeed keeps whole are gathered again."""
        if parameter.ds_persist and parameter.ds_status.name == "NOT_AVAILABLE":
            parameter.all_gather([parameter])
