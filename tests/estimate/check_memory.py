"""Runs on every rank: bytes of the tensors that each ZeRO stage holds, beside what the model of them says.

Usage: check_memory.py FILE; rank 0 writes there, by stage and precision: measured and predicted bytes.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from lapa.config.training import DeepSpeedEngineConfig, FitConfig
from lapa.estimate.footprint import Affine, Footprint, Work
from lapa.estimate.memory import layout_of, training_memory
from lapa.models.latent_action.model import build_latent_action_model
from lapa.process import end_process
from lapa.stages.footprint import parameter_groups
from lapa.training.engine import build_engine
from lapa.types.batches import FramePair
from tests.estimate.models import small_latent_action

BATCH = 4


def held_bytes() -> int:
    """Of all storages that Python can reach."""
    gc.collect()
    found: dict[int, int] = {}
    for item in gc.get_objects():
        if type(item) in (Tensor, torch.nn.Parameter):
            for tensor in (item, item.grad) if item.is_leaf else (item,):
                if tensor is not None:
                    found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(size for address, size in found.items() if address)


def measure(stage: int, precision: str) -> dict[str, int]:
    model = small_latent_action()
    engine_config = DeepSpeedEngineConfig(zero_stage=stage, bucket_bytes=40_000)  # type: ignore[arg-type]
    fit = FitConfig(steps=3, batch_size=BATCH, precision=precision)  # type: ignore[arg-type]
    before = held_bytes()
    engine = build_engine(lambda: build_latent_action_model(model), engine_config, fit, seed=1)
    frames = torch.zeros(BATCH // engine.world_size, 3, model.image_size, model.image_size, dtype=torch.uint8)
    gathered = 0
    for _ in range(2):  # ZeRO-3 knows the order of layers from the second pass on
        loss = engine.run(FramePair(current=frames, future=frames)).loss
        gathered = sum(p.data.untyped_storage().nbytes() for p in engine.model.parameters()) if stage == 3 else 0
        engine.backward(loss)
        del loss
        held = held_bytes() - before
        engine.update()
    memory = predicted(model, engine_config, ranks=engine.world_size, is_half=precision == "bf16")
    buckets = engine_config.bucket_bytes if stage else 0
    return {
        "held": held,
        "held_predicted": memory.parameters + memory.gradients + memory.optimizer + buckets,
        "gathered": gathered,
        "gathered_predicted": memory.gathered - buckets if stage == 3 else 0,
    }


def predicted(model, engine, *, ranks, is_half):
    fresh = build_latent_action_model(model)
    nothing = Work(saved=Affine(fixed=0, per_sample=0), flops=0)
    footprint = Footprint(
        stage="laq",
        parameters=parameter_groups(fresh),
        work=nothing,
        frame_bytes=0,
        stored_bytes=0,
        stored_bytes_are_measured=False,
    )
    layout = layout_of(engine, ranks=ranks, micro_batch=1, has_average=False, is_half=is_half)
    return training_memory(footprint, nothing, layout)


def main() -> None:
    found = {f"{stage}-{precision}": measure(stage, precision) for stage in range(4) for precision in ("fp32", "bf16")}
    if torch.distributed.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
    end_process(0)
