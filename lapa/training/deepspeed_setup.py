"""Starting DeepSpeed: quickly, without compiling anything, without noise it cannot help."""

import gc
import importlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from lapa.config.training import DeepSpeedEngineConfig, FitConfig
from lapa.errors import ConfigError, MissingDependency
from lapa.training.distributed import TIMEOUT, Launch

logger = logging.getLogger(__name__)

# torch 2.13 renamed two collectives and DeepSpeed still calls the old names, once per bucket.
_RENAMED_COLLECTIVES = r".*(all_gather_into_tensor|reduce_scatter_tensor).*"
_UNTESTED_OPTIMIZER = "You are using ZeRO with an untested optimizer"


def import_deepspeed(device: torch.device) -> Any:
    """The deepspeed module, told which accelerator to use before its first import."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    if device.type == "cpu":
        # It would ask the program numactl for this number, at every bucket of gradients.
        os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        with _without_mlflow(), _without_garbage_collection():
            import deepspeed

            importlib.import_module("torch._dynamo")  # torch's optimizers do so anyway, outside of this
    except ImportError as error:
        raise MissingDependency("engine.kind=deepspeed needs the package deepspeed: install lapa[train].") from error
    # Its one use is to decorate the Muon optimizer, which nothing here takes: that would load the whole compiler.
    deepspeed.runtime.compiler.compile = lambda: deepspeed.runtime.compiler.dummy_decorator
    # What it finds by trying the C compiler on each of its ops, to compile one for a minute whose work gloo does.
    deepspeed.ops.__compatible_ops__ = {}
    warnings.filterwarnings("ignore", message=_RENAMED_COLLECTIVES, category=FutureWarning)
    noisy = logging.getLogger("DeepSpeed")
    noisy.setLevel(logging.WARNING)
    noisy.addFilter(lambda record: _UNTESTED_OPTIMIZER not in record.getMessage())
    return deepspeed


@contextmanager
def _without_mlflow() -> Iterator[None]:
    """DeepSpeed's autotuner imports MLflow where it is installed: seconds, for something that nothing here uses."""
    if "mlflow" in sys.modules:
        yield
        return
    # No other thread imports MLflow meanwhile: rank 0's tracker has loaded it before, and other ranks have none.
    sys.modules["mlflow"] = None  # type: ignore[assignment]  # what Python takes for "cannot be imported"
    try:
        yield
    finally:
        del sys.modules["mlflow"]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """What is imported stays: collecting garbage meanwhile, and ever after, would only look at all of it again."""
    if "deepspeed" in sys.modules:
        yield
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def join_ranks(deepspeed: Any, device: torch.device, launch: Launch) -> None:
    """Join torchrun's process group; a process started by hand becomes the only rank of its own."""
    if dist.is_initialized():
        return
    if "MASTER_ADDR" not in os.environ:
        if launch.world_size > 1:
            raise ConfigError("WORLD_SIZE is set without MASTER_ADDR. Start the ranks with torchrun.")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "LOCAL_RANK": "0"}
        os.environ.update(alone | {"WORLD_SIZE": "1"})
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False, timeout=TIMEOUT)


def leave_norm_on_device(optimizer: Any) -> None:
    """Stages 1 to 3 read the gradient's norm on the host in every update, and skip the update if it is no number.

    The loop asks for the norm itself, in the steps in which it logs or saves, and ends the run before anything is saved
    that follows a broken one. So nothing is gained by looking sooner, and a GPU would wait for the host every time.
    """
    zero = sys.modules[type(optimizer).__module__]
    combine = getattr(zero, "combine_grad_norm_groups", None)
    # Another DeepSpeed, in which the norm of a broken gradient would be told as a number, is left as it is.
    if combine and hasattr(zero, "is_invalid_grad_norm") and bool(combine([torch.tensor(-1.0)]).isinf()):
        zero.is_invalid_grad_norm = lambda norm: False  # type: ignore[attr-defined]


def deepspeed_config(config: DeepSpeedEngineConfig, fit: FitConfig, *, world_size: int, on_gpu: bool) -> dict[str, Any]:
    """DeepSpeed's own configuration. Weights stay fp32; bf16 is autocast, as in the torch engine."""
    share = fit.batch_size // world_size
    elements = max(1, config.bucket_bytes // 4)
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "overlap_comm": on_gpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": elements,
        "allgather_bucket_size": elements,
    }
    if config.zero_stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": elements,
            # Smaller parameters stay whole on every rank: gathering them costs more than they weigh.
            "stage3_param_persistence_threshold": min(100_000, config.bucket_bytes // 2000),
        }
    if config.offload and config.zero_stage:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
    return {
        "train_micro_batch_size_per_gpu": min(share, fit.micro_batch_size or share),
        "gradient_accumulation_steps": -(-share // min(share, fit.micro_batch_size or share)),
        # Stage 0 clips in the engine: DeepSpeed keeps no gradient norm there.
        "gradient_clipping": (fit.optimizer.clip_norm or 0.0) if config.zero_stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": fit.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": None,
    }
