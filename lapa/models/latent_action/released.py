"""Weights in the layout of the released LAQ (`laq_openx.pt`), both ways, name by name."""

import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import fsspec
import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lapa import files
from lapa.config.latent_action import LatentActionConfig, TransformerArchitecture
from lapa.errors import CheckpointError, CheckpointMismatch, CheckpointNotFound, ConfigError
from lapa.models.latent_action.attention import CosineAttention, FeedForward
from lapa.models.latent_action.model import LatentActionModel
from lapa.models.latent_action.positions import LocalMixing
from lapa.models.latent_action.transformer import SpatialBlock, TemporalBlock, TransformerDynamics


@dataclass(frozen=True)
class Entry:
    """One released tensor: how to write it from our weights, and how to read it into them."""

    name: str
    write: Callable[[], Tensor]
    read: Callable[[Tensor], None]


def released_state_dict(model: LatentActionModel) -> dict[str, Tensor]:
    """Our weights under the released names and shapes, with the tensors that the released model holds but
    never uses at their initial values."""
    return {entry.name: entry.write() for entry in _entries(model)}


def read_released(url: str) -> dict[str, Tensor]:
    """A released state dict, `.pt` or `.safetensors`, on the CPU. Nothing in the file is executed.

    CheckpointNotFound when the file cannot be reached, CheckpointError when it is no state dict.
    """
    with tempfile.TemporaryDirectory(prefix="lapa-released-") as folder:
        path = files.local_path(url) or Path(folder) / files.name_of(url)
        try:
            if files.local_path(url) is None:
                with fsspec.open(url, "rb") as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
            is_safe = path.suffix == ".safetensors"
            state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise CheckpointNotFound(
                f"released weights cannot be read from {url}: {error}. Set laq.released_weights to the file."
            ) from error
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise CheckpointError(f"{url} is no state dict: {error}. Download the released file again.") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{url} holds more than a state dict. Set laq.released_weights to the model's own file.")
    return dict(state)


@torch.no_grad()
def load_released(model: LatentActionModel, state: Mapping[str, Tensor]) -> None:
    """Fill `model` from a released state dict.

    Raises CheckpointMismatch naming every tensor that is missing, left over or of another shape;
    the model is unchanged then.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    entries = list(_entries(model))
    wanted = {entry.name: tuple(entry.write().shape) for entry in entries}
    problems = [f"missing {name}" for name in sorted(wanted.keys() - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - wanted.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {shape}"
        for name, shape in wanted.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if problems:
        raise CheckpointMismatch(
            f"these weights are no released LAQ of this size: {len(problems)} tensors differ, first "
            f"{'; '.join(problems[:3])}. Use the preset lapa-paper with the size the weights were trained at."
        )
    for entry in entries:
        entry.read(state[entry.name])
    model.quantizer.initialized.fill_(True)


def released_parameter_count(model: LatentActionModel) -> int:
    """Trainable numbers as the released code counts them (its `beta` tensors are buffers)."""
    return sum(entry.write().numel() for entry in _entries(model) if not entry.name.endswith(".beta"))


def _entries(model: LatentActionModel) -> Iterator[Entry]:
    architecture = _checked(model.config)
    dynamics, quantizer = model.dynamics, model.quantizer
    assert isinstance(dynamics, TransformerDynamics)
    for name, index in (("0.0", 0), ("1.0", 2), ("2", 4)):
        yield from _affine(f"spatial_rel_pos_bias.net.{name}", dynamics.position_bias.network[index])
    for index, module in (
        (1, dynamics.patches.pixel_norm),
        (2, dynamics.patches.project),
        (3, dynamics.patches.token_norm),
    ):
        yield from _affine(f"to_patch_emb_first_frame.{index}", module)
    encoder, decoder = dynamics.inverse_dynamics, dynamics.forward_dynamics
    yield from _stack("enc_spatial_transformer", encoder.spatial, encoder.spatial_norm, architecture)
    yield from _stack("enc_temporal_transformer", encoder.temporal, encoder.temporal_norm, architecture)
    codebook = quantizer.codebook
    assert isinstance(codebook, Tensor)
    yield _plain("vq.codebooks", codebook)
    yield from _affine("vq.project_in", encoder.pooling.project)
    yield from _affine("vq.project_out", decoder.code_projection.project)
    yield from _affine("vq.cnn_encoder.0", encoder.pooling.halve)
    yield from _affine("vq.cnn_encoder.2", encoder.pooling.shrink)
    yield from _stack("dec_spatial_transformer", decoder.blocks, decoder.norm, architecture)
    yield from _affine("to_pixels_first_frame.0", decoder.to_pixels)


def _checked(config: LatentActionConfig) -> TransformerArchitecture:
    architecture = config.architecture
    if not isinstance(architecture, TransformerArchitecture) or not architecture.released_layout:
        raise ConfigError(
            "the released layout belongs to architecture.kind=transformer with architecture.released_layout=true; "
            "start from the preset lapa-paper."
        )
    if config.quantizer.kind != "nsvq":
        raise ConfigError(f"quantizer.kind={config.quantizer.kind}: the released model has nsvq.")
    return architecture


def _stack(
    name: str, blocks: nn.ModuleList, norm: nn.LayerNorm, architecture: TransformerArchitecture
) -> Iterator[Entry]:
    for number, block in enumerate(blocks):
        assert isinstance(block, SpatialBlock | TemporalBlock)
        yield from _mixing(f"{name}.layers.{number}.0.dsconv", block.mixing)
        yield from _attention(f"{name}.layers.{number}.1", block.attention, architecture)
        if isinstance(block, SpatialBlock) and block.cross_attention is not None:
            yield from _attention(f"{name}.layers.{number}.2", block.cross_attention, architecture)
        yield from _feedforward(f"{name}.layers.{number}.3", block.feedforward)
    yield from _norm(f"{name}.norm_out", norm)


def _attention(name: str, module: CosineAttention, architecture: TransformerArchitecture) -> Iterator[Entry]:
    yield _plain(f"{name}.q_scale", module.query_scale)
    yield _plain(f"{name}.k_scale", module.key_scale)
    yield from _norm(f"{name}.norm", module.norm)
    if module.context_norm is not None:
        yield from _norm(f"{name}.context_norm", module.context_norm)
    else:  # self-attention has a context norm that it never calls
        yield _unused(f"{name}.context_norm.gamma", torch.ones_like(module.norm.weight))
        yield _unused(f"{name}.context_norm.beta", torch.zeros_like(module.norm.weight))
    null = module.null_entries
    if null is None:
        yield _unused(f"{name}.null_kv", module.query_scale.new_empty(module.heads, 0, architecture.head_width))
    else:
        yield Entry(
            f"{name}.null_kv",
            write=lambda: rearrange(null, "two heads m f -> heads (m two) f").detach().clone(),
            read=lambda value: _set(null, rearrange(value, "heads (m two) f -> two heads m f", two=2)),
        )
    yield _plain(f"{name}.to_q.weight", module.to_query.weight)
    yield _plain(f"{name}.to_kv.weight", module.to_key_value.weight)
    yield _plain(f"{name}.to_out.weight", module.to_out.weight)


def _feedforward(name: str, module: FeedForward) -> Iterator[Entry]:
    inner, hidden, out = module.inner, module.inner_weight, module.out_weight
    yield from _affine(f"{name}.0", module.norm)
    yield Entry(
        f"{name}.1.weight",
        write=lambda: hidden[:, :inner].flatten(0, 1).detach().clone(),
        read=lambda value: _set(hidden[:, :inner], rearrange(value, "(two inner) d -> two inner d", two=2)),
    )
    yield Entry(
        f"{name}.4.weight",
        write=lambda: out[:, :inner].detach().clone(),
        read=lambda value: _set(out[:, :inner], value),
    )


def _mixing(name: str, module: LocalMixing) -> Iterator[Entry]:
    """The released kernel runs from the oldest time slice to the newest; ours from the newest back."""
    taps = module.taps

    def write() -> Tensor:
        kernel = taps.new_zeros(taps.shape[1], 1, 3, 3, 3)
        for age, tap in enumerate(taps.detach()):
            kernel[:, :, 2 - age] = tap
        return kernel

    def read(value: Tensor) -> None:
        for age in range(len(taps)):
            _set(taps[age], value[:, :, 2 - age])

    yield Entry(f"{name}.weight", write, read)
    yield _plain(f"{name}.bias", module.bias)


def _affine(name: str, module: nn.Module) -> Iterator[Entry]:
    assert isinstance(module.weight, Tensor) and isinstance(module.bias, Tensor)
    yield _plain(f"{name}.weight", module.weight)
    yield _plain(f"{name}.bias", module.bias)


def _norm(name: str, module: nn.LayerNorm) -> Iterator[Entry]:
    yield _plain(f"{name}.gamma", module.weight)
    yield _unused(f"{name}.beta", torch.zeros_like(module.weight))


def _plain(name: str, ours: Tensor) -> Entry:
    return Entry(name, write=lambda: ours.detach().clone(), read=lambda value: _set(ours, value))


def _unused(name: str, initial: Tensor) -> Entry:
    return Entry(name, write=lambda: initial.detach().clone(), read=lambda value: None)


@torch.no_grad()
def _set(ours: Tensor, value: Tensor) -> None:
    ours.copy_(value)
