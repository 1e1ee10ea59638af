"""Save, load, and continue a model with new heads. A model folder needs no network.

`config.json` holds the spec, `model.safetensors` the weights, `backbone/` the backbone's own config and
processor files where it has any.
"""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lapa import files
from lapa.errors import CheckpointMismatch
from lapa.models import storage
from lapa.models.vla.model import VisionLanguageAction, build_vla
from lapa.models.vla.spec import VlaSpec

KIND = "vla"
BACKBONE_FOLDER = "backbone"


def save_vla(folder: Path, model: VisionLanguageAction, state: Mapping[str, Tensor] | None = None) -> None:
    """Write a model folder. `state` replaces the model's own weights (an engine's consolidated ones)."""
    model.backbone.save_files(folder / BACKBONE_FOLDER)
    storage.save_model(folder, kind=KIND, config=model.spec, state=model.state_dict() if state is None else state)


def load_vla_spec(url: str) -> VlaSpec:
    """What the model at `url` is, without its weights."""
    return VlaSpec.model_validate(storage.load_config(url, KIND))


def load_vla(url: str) -> VisionLanguageAction:
    """The model in eval mode, on the CPU."""
    model = _build_beside(url, load_vla_spec(url))
    load_weights(model, storage.load_state(url), url=url)
    return model.eval()


def start_finetuning(pretrained_url: str | None, spec: VlaSpec) -> VisionLanguageAction:
    """A model with the action head of `spec`: the pretrained backbone where there is one, new heads.

    The latent head is kept when `spec` has one. Without `pretrained_url`, the backbone as it is (Scratch).
    """
    if pretrained_url is None:
        return build_vla(spec)
    pretrained = load_vla_spec(pretrained_url)
    if spec.backbone != pretrained.backbone:
        raise CheckpointMismatch(
            f"{pretrained_url} holds backbone {pretrained.backbone}, finetuning asks for {spec.backbone}. "
            "Leave finetune.backbone unset to take the pretrained one."
        )
    model = _build_beside(pretrained_url, spec)
    wanted = model.state_dict()
    new = {name for name in wanted if _belongs_to_a_head(name)}
    state = storage.load_state(pretrained_url)
    kept = {
        name: value
        for name, value in state.items()
        if not _belongs_to_a_head(name) or (name in wanted and wanted[name].shape == value.shape)
    }
    load_weights(model, kept, url=pretrained_url, may_lack=new)
    return model


@torch.no_grad()
def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, url: str, may_lack: Collection[str] = ()) -> None:
    """Copy weights into the model.

    CheckpointMismatch names a weight that is missing, unknown or of another shape.
    """
    own = model.state_dict()
    missing, unknown = own.keys() - state.keys() - set(may_lack), state.keys() - own.keys()
    if missing or unknown:
        raise CheckpointMismatch(
            f"{url} does not fit the model: missing {sorted(missing)[:3]}, unknown {sorted(unknown)[:3]}. "
            "Use the settings the checkpoint was made with, or start fresh under another run name."
        )
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise CheckpointMismatch(
                f"{name} in {url} has shape {tuple(value.shape)}, the model needs {tuple(own[name].shape)}. "
                "Use the settings the checkpoint was made with."
            )
        own[name].copy_(value)


def _build_beside(url: str, spec: VlaSpec) -> VisionLanguageAction:
    """Build from the files inside the model folder, so that neither hub nor network is asked."""
    if not files.exists(files.join(url, BACKBONE_FOLDER)):
        return build_vla(spec)
    with tempfile.TemporaryDirectory() as cache:
        return build_vla(spec, source=str(files.local_copy(files.join(url, BACKBONE_FOLDER), Path(cache))))


def _belongs_to_a_head(name: str) -> bool:
    return name.startswith(("latent_head.", "action_head.", "proprioception.")) or ".tokens.tables." in f".{name}"
