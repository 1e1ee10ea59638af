"""Train step and labelling of the latent-action model, beside the reference code and the machine's own GEMM.

    python benchmarks/laq_speed.py [--reference DIR] [--size full] [--device cuda] [--precision bf16] [--out FILE]

DIR is a checkout's `laq` folder, outside this tree. Both have the same architecture, batch, clipping and Adam, and take
turns in one process; on a CPU one thread, fp32, CPU seconds. Operations are those that `lapactl plan` counts, the
same for both sides, and `predicted` is its time model, with this machine's GEMM, memory and calls as yardsticks that
take turns with the rest: on a CPU they follow each other, on a GPU the host's calls go beside the device's work.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import gemm, in_turns, parser_of, write
from benchmarks.parity import build_reference, frames, import_reference, small_config
from benchmarks.yardsticks import calls, memory
from lapa.config.latent_action import LatentActionConfig
from lapa.config.models import lapa_paper_model
from lapa.estimate.footprint import Work
from lapa.estimate.speed import demand_of, optimizer_bytes, roofline_seconds
from lapa.models.latent_action.model import build_latent_action_model
from lapa.stages.footprint import fake_latent_action, measured_work
from lapa.types.batches import FramePair

GOALS = {"train": (1.45, 0.65), "label": (1.05, 0.88)}
"""Ratio to the reference and share of GEMM, of the full size on a CPU (docs/results/speed.md)."""
GEMMS = {"small": (512, 20), "full": (2048, 20)}
"""Side of the matrices, and products in a turn: about as long as the turns of the others, so that noise is alike."""


def steps_of(
    config: LatentActionConfig, pair: FramePair, device: torch.device, *, is_half: bool
) -> dict[str, Callable[[], Any]]:
    model = build_latent_action_model(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    arithmetic = torch.autocast(device.type, torch.bfloat16, enabled=is_half)

    def train() -> None:
        model.train()
        with arithmetic:
            loss = model(pair).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def label() -> None:
        model.eval()
        with torch.inference_mode(), arithmetic:
            model.encode(pair)

    return {"train": train, "label": label}


def reference_steps(folder: Path, config: LatentActionConfig, pair: FramePair) -> dict[str, Callable[[], Any]]:
    """As its trainer and its labelling call it."""
    model = build_reference(import_reference(folder)[0], config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    video = torch.stack((pair.current, pair.future), dim=2).float() / 255

    def train() -> None:
        model.train()
        loss, _ = model(video)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()

    def label() -> None:
        model.eval()
        with torch.no_grad():
            model(video, return_only_codebook_ids=True)

    return {"train": train, "label": label}


def run(options: Any) -> dict[str, Any]:
    device = torch.device(options.device)
    config = lapa_paper_model() if options.size == "full" else small_config()
    is_half, (side, times) = options.precision == "bf16", GEMMS[options.size]
    dtype = torch.bfloat16 if is_half else torch.float32
    (product, operations), (moving, moved), (calling, called) = (
        gemm(device, dtype, side, times=times),
        memory(device, side, times=times),
        calls(device),
    )
    results: dict[str, Any] = {}
    for what, pairs in (("train", options.train_pairs), ("label", options.label_pairs)):
        on_cpu = frames(config.image_size, pairs, seed=2)
        pair = FramePair(current=on_cpu.current.to(device), future=on_cpu.future.to(device))
        sides = {
            "gemm": product,
            "memory": moving,
            "calls": calling,
            "ours": steps_of(config, pair, device, is_half=is_half)[what],
        }
        if options.reference:
            sides["reference"] = reference_steps(options.reference, config, pair)[what]
        seconds = in_turns(sides, rounds=options.rounds, device=device)
        subject = fake_latent_action(config, labels=what == "label")
        work = measured_work(subject, trains=what == "train", is_half=is_half)
        yardsticks = {"gemm": operations, "memory": moved, "calls": called}
        rates = {name: amount / seconds[name] for name, amount in yardsticks.items()}
        updated = sum(parameter.numel() for parameter in subject.model.parameters()) if what == "train" else 0
        predicted = predicted_seconds(work, pairs, rates, device, updated)
        results[what] = told(what, seconds, rates, work, pairs, predicted)
    return {
        "size": options.size, "device": options.device, "precision": options.precision,
        "rounds": options.rounds, "results": results,
    }  # fmt: skip


def predicted_seconds(work: Work, pairs: int, rates: dict[str, float], device: torch.device, updated: int) -> float:
    """Of one turn, which updates so many parameters."""
    demand = demand_of(work, micro_batch=pairs)
    working = roofline_seconds(demand, peak=rates["gemm"], bandwidth=rates["memory"])
    calling = demand.calls / rates["calls"]
    together = max(working, calling) if device.type == "cuda" else working + calling
    return together + optimizer_bytes(updated) / rates["memory"]


def told(
    what: str, seconds: dict[str, float], rates: dict[str, float], work: Work, pairs: int, predicted: float
) -> dict[str, Any]:
    peak, flops = rates["gemm"], pairs * work.flops
    found: dict[str, Any] = {
        "pairs": pairs,
        "seconds": seconds,
        "gemm_gflops": peak / 1e9,
        "memory_gigabytes_per_second": rates["memory"] / 1e9,
        "microseconds_per_call": 1e6 / rates["calls"],
        "flops_per_pair": flops / pairs,
        "pairs_per_second": pairs / seconds["ours"],
        "share_of_gemm": flops / seconds["ours"] / peak,
        "predicted_seconds": predicted,
        "predicted_over_measured": predicted / seconds["ours"],
        "goal": {"ratio_to_reference": GOALS[what][0], "share_of_gemm": GOALS[what][1]},
    }
    if "reference" in seconds:
        found["ratio_to_reference"] = seconds["reference"] / seconds["ours"]
        found["reference_share_of_gemm"] = flops / seconds["reference"] / peak
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--reference", type=Path, help="the `laq` folder of a checkout of the public code (CPU, fp32)")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--train-pairs", type=int, default=2)
    parser.add_argument("--label-pairs", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    write(run(options), options.out)


if __name__ == "__main__":
    main()
