"""Train step and labelling of the latent-action model, beside the reference code and the machine's own GEMM.

    python benchmarks/laq_speed.py [--reference DIR] [--size full] [--device cuda] [--precision bf16] [--out FILE]

DIR is a checkout's `laq` folder, outside this tree. Both have the same architecture, batch, clipping and Adam, and take
turns in one process; on a CPU one thread, fp32, CPU seconds. Operations are those that `lapactl plan` counts, the
same for both sides, and `predicted` is its time model with this machine's GEMM as the peak.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import gemm, in_turns, parser_of, write
from benchmarks.parity import build_reference, frames, import_reference, small_config
from lapa.config.latent_action import LatentActionConfig
from lapa.config.models import lapa_paper_model
from lapa.estimate.speed import ASSUMED_MFU, compute_seconds
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
    product, operations = gemm(device, torch.bfloat16 if is_half else torch.float32, side, times=times)
    results: dict[str, Any] = {}
    for what, pairs in (("train", options.train_pairs), ("label", options.label_pairs)):
        on_cpu = frames(config.image_size, pairs, seed=2)
        pair = FramePair(current=on_cpu.current.to(device), future=on_cpu.future.to(device))
        sides = {"gemm": product, "ours": steps_of(config, pair, device, is_half=is_half)[what]}
        if options.reference:
            sides["reference"] = reference_steps(options.reference, config, pair)[what]
        seconds = in_turns(sides, rounds=options.rounds, device=device)
        work = measured_work(fake_latent_action(config, labels=what == "label"), trains=what == "train", is_half=False)
        results[what] = told(what, seconds, pairs * work.flops, pairs, operations, options.precision)
    return {
        "size": options.size, "device": options.device, "precision": options.precision,
        "rounds": options.rounds, "results": results,
    }  # fmt: skip


def told(
    what: str, seconds: dict[str, float], flops: float, pairs: int, operations: float, precision: str
) -> dict[str, Any]:
    peak = operations / seconds["gemm"]
    predicted = compute_seconds(flops, peak=peak, mfu=ASSUMED_MFU[precision])
    found: dict[str, Any] = {
        "pairs": pairs,
        "seconds": seconds,
        "gemm_gflops": peak / 1e9,
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
