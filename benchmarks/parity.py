"""Compare our `lapa-paper` model with a copy of the reference code: same weights, same frames, same noise.

    python benchmarks/parity.py --reference DIR [--full] [--golden FILE]

DIR is a checkout's `laq` folder, the one that holds `laq_model/`; none of it is needed anywhere else.
"""

import argparse
import importlib
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from lapa.config.latent_action import LatentActionConfig, NsvqConfig, TransformerArchitecture
from lapa.config.models import lapa_paper_model
from lapa.models.latent_action.model import build_latent_action_model
from lapa.models.latent_action.released import load_released, released_state_dict
from lapa.types.batches import FramePair


def small_config(codes: int = 4) -> LatentActionConfig:
    return LatentActionConfig(
        image_size=64,
        codes_per_pair=codes,
        architecture=TransformerArchitecture(
            patch_size=8,
            width=48,
            spatial_depth=2,
            temporal_depth=2,
            decoder_depth=2,
            heads=4,
            head_width=16,
            released_layout=True,
        ),
        quantizer=NsvqConfig(width=16, initialization="normal"),
    )


def filled(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Weights that any program can make again: drawn in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        draw = torch.randn(shape, generator=generator)
        if name.endswith("beta"):
            weights[name] = torch.zeros(shape)
        elif name.endswith(("gamma", "_scale")) or "norm" in name:
            weights[name] = 1 + 0.1 * draw
        elif name == "vq.codebooks":
            weights[name] = 0.5 * draw
        elif len(shape) > 1:
            weights[name] = draw * max(1, draw[0].numel()) ** -0.5
        else:
            weights[name] = 0.1 * draw
    return weights


def frames(size: int, pairs: int, seed: int) -> FramePair:
    """Smooth random frames and a shifted, brightened copy."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(pairs, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") * 200
    moved = torch.roll(smooth, shifts=(size // 16, -size // 32), dims=(2, 3)) + 30 * torch.rand(
        pairs, 1, 1, 1, generator=generator
    )
    return FramePair(current=smooth.byte(), future=moved.clamp(0, 255).byte())


def import_reference(folder: Path) -> tuple[Any, Any]:
    """The two modules alone: the package itself imports a trainer with dependencies nobody needs here."""
    package = types.ModuleType("laq_model")
    package.__path__ = [str(folder / "laq_model")]
    sys.modules["laq_model"] = package
    module = importlib.import_module("laq_model.latent_action_quantization")
    nsvq = importlib.import_module("laq_model.nsvq").NSVQ
    original = nsvq.__init__

    def on_cpu(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "device": "cpu"})

    nsvq.__init__ = on_cpu
    return module.LatentActionQuantization, nsvq


def build_reference(model_class: Any, config: LatentActionConfig) -> Any:
    architecture, quantizer = config.architecture, config.quantizer
    assert isinstance(architecture, TransformerArchitecture) and isinstance(quantizer, NsvqConfig)
    return model_class(
        dim=architecture.width,
        quant_dim=quantizer.width,
        codebook_size=quantizer.codebook_size,
        image_size=config.image_size,
        patch_size=architecture.patch_size,
        spatial_depth=architecture.spatial_depth,
        temporal_depth=architecture.temporal_depth,
        dim_head=architecture.head_width,
        heads=architecture.heads,
        code_seq_len=config.codes_per_pair,
    )


def compare(
    model_class: Any, config: LatentActionConfig, *, pairs: int, gradients: bool = False, near_codebook: bool = False
) -> dict[str, Any]:
    """`near_codebook` puts the codes among the latents, so that many of them are in use."""
    reference = build_reference(model_class, config)
    shapes = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    weights = filled(shapes, seed=1)
    torch.nn.Module.load_state_dict(reference, weights, strict=True)
    ours = build_latent_action_model(config)
    load_released(ours, weights)
    if near_codebook:
        latents = ours.eval().encode(frames(config.image_size, 2, seed=9)).vectors.flatten(0, 1)
        weights["vq.codebooks"] = latents.repeat(8, 1)[: len(weights["vq.codebooks"])].clone()
        torch.nn.Module.load_state_dict(reference, weights, strict=True)
        load_released(ours, weights)
    exported = released_state_dict(ours)
    assert {n: tuple(t.shape) for n, t in exported.items()} == shapes
    del exported
    pair = frames(config.image_size, pairs, seed=2)
    video = torch.stack((pair.current, pair.future), dim=2).float() / 255

    torch.manual_seed(3)
    started = time.process_time()
    loss, _ = reference(video)
    seconds_reference = time.process_time() - started
    torch.manual_seed(3)
    training_codes = reference(video, return_only_codebook_ids=True)
    torch.manual_seed(3)
    ours.train()
    started = time.process_time()
    output = ours(pair)
    seconds_ours = time.process_time() - started
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in reference.parameters()),
        "loss": loss.item(),
        "loss_difference": abs(loss.item() - output.loss.item()),
        "training_codes_equal": bool((training_codes == output.codes).all()),
        "codes": training_codes.tolist(),
        "forward_cpu_seconds": [round(seconds_reference, 2), round(seconds_ours, 2)],
    }
    if gradients:
        result["gradient_difference"] = gradient_difference(reference, ours, loss, output.loss)
    reference.eval()
    ours.eval()
    with torch.no_grad():
        hard = reference.inference(video)
        encoded = ours.encode(pair)
        decoded = ours.decode(pair.current, encoded.codes)
        result["inference_codes_equal"] = bool(
            (reference.inference(video, return_only_codebook_ids=True) == encoded.codes).all()
        )
        result["inference_image_difference"] = (hard.clamp(0, 1) - decoded).abs().max().item()
        result["image_mean"] = hard.clamp(0, 1).mean(dim=(1, 2, 3)).tolist()
        result["image_sample"] = hard.clamp(0, 1)[:, :, ::13, ::17].flatten(1)[:, :12].tolist()
    return result


def gradient_difference(reference: Any, ours: Any, loss: Tensor, our_loss: Tensor) -> float:
    """Largest difference of a gradient, relative to that tensor's largest; ours renamed by exporting them.

    Two biases have a gradient of zero by construction (they cancel in a difference or a softmax): only noise there.
    """
    loss.backward()
    our_loss.backward()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    renamed = released_state_dict(ours)
    worst = 0.0
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None and parameter.numel() and (scale := parameter.grad.abs().max()) > 1e-7:
            worst = max(worst, ((parameter.grad - renamed[name]).abs().max() / scale).item())
    return worst


def show_line(name: str, result: dict[str, Any]) -> None:
    shown = {key: value for key, value in result.items() if key not in ("image_mean", "image_sample")}
    sys.stdout.write(f"{name}: {json.dumps(shown)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--full", action="store_true", help="also the published size (6 GB of memory)")
    parser.add_argument("--golden", type=Path, help="write the small comparison's reference values here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model_class, _ = import_reference(arguments.reference)
    for codes in (1, 2, 4):
        result = compare(model_class, small_config(codes), pairs=5)
        show_line(f"small, {codes} codes", result)
        if codes == 4 and arguments.golden:
            keep = ("parameters", "loss", "codes", "image_mean", "image_sample")
            arguments.golden.write_text(json.dumps({key: result[key] for key in keep}, indent=1) + "\n")
    worst = compare(model_class, small_config(), pairs=5, gradients=True)["gradient_difference"]
    sys.stdout.write(f"small, gradients: largest relative difference {worst:.2e}\n")
    if arguments.full:
        result = compare(model_class, lapa_paper_model(), pairs=3, near_codebook=True)
        show_line("full size", result)


if __name__ == "__main__":
    main()
