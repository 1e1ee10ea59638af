"""Save, load, and continue a model with new heads. A model folder needs no network.

`config.json` holds the spec, `model.safetensors` the weights, `backbone/` the backbone's own config and
processor files where it has any.
"""

import shutil
import tempfile
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from lapa import files
from lapa.errors import CheckpointMismatch
from lapa.models import storage
from lapa.models.partitioning import full_shape, overwrite
from lapa.models.vla.model import VisionLanguageAction, build_vla
from lapa.models.vla.spec import VlaSpec

KIND = "vla"
BACKBONE_FOLDER = "backbone"


def save_vla(
    folder: Path,
    model: VisionLanguageAction,
    state: Mapping[str, Tensor] | None = None,
    *,
    backbone_files: Path | None = None,
) -> None:
    """Write a model folder. `state` replaces the model's own weights (an engine's saved ones), `backbone_files` the
    backbone's own files; given both, the model itself is left alone."""
    if backbone_files is None:
        model.backbone.save_files(folder / BACKBONE_FOLDER)
    elif backbone_files.exists():
        shutil.copytree(backbone_files, folder / BACKBONE_FOLDER, dirs_exist_ok=True)
    storage.save_model(folder, kind=KIND, config=model.spec, state=model.state_dict() if state is None else state)


def load_vla_spec(url: str) -> VlaSpec:
    """What the model at `url` is, without its weights."""
    return VlaSpec.model_validate(storage.load_config(url, KIND))


def load_vla(url: str) -> VisionLanguageAction:
    """The model in eval mode, on the CPU."""
    model = _build_beside(url, load_vla_spec(url))
    with storage.open_state(url) as state:
        load_weights(model, state, url=url)
    return model.eval()


def start_finetuning(pretrained_url: str | None, spec: VlaSpec, *, keep_head: bool = False) -> VisionLanguageAction:
    """A model with the action head of `spec`: the pretrained backbone where there is one, a new action head.

    The latent head is kept when `spec` has one, the action head with `keep_head`. Without `pretrained_url`, the
    backbone as it is (Scratch).
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
    wanted = {name: full_shape(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    new = {name for name in wanted if _belongs_to_a_head(name) and not (keep_head and _belongs_to_the_action(name))}
    with storage.open_state(pretrained_url) as state:
        fits = {name for name, shape in state.shapes.items() if wanted.get(name) == shape}
        # An action head that happens to have the same shape was fitted to other bins: its weights mean nothing here.
        may_stay = fits if keep_head else {name for name in fits if not _belongs_to_the_action(name)}
        kept = [name for name in state if not _belongs_to_a_head(name) or name in may_stay]
        load_weights(model, state, kept, url=pretrained_url, may_lack=new)
    return model


def load_weights(
    model: nn.Module,
    state: storage.StoredState,
    names: Collection[str] | None = None,
    *,
    url: str,
    may_lack: Collection[str] = (),
) -> None:
    """Copy weights into the model, all of them or those of these names. Collective for parameters in parts.

    CheckpointMismatch names a weight that is missing, unknown or of another shape.
    """
    own = model.state_dict(keep_vars=True)
    names = list(state) if names is None else names
    missing, unknown = own.keys() - set(names) - set(may_lack), set(names) - own.keys()
    if missing or unknown:
        raise CheckpointMismatch(
            f"{url} does not fit the model: missing {sorted(missing)[:3]}, unknown {sorted(unknown)[:3]}. "
            "Use the settings the checkpoint was made with, or make the stage again: lapactl run … --force STAGE."
        )
    for name in names:
        if full_shape(own[name]) != state.shapes[name]:
            raise CheckpointMismatch(
                f"{name} in {url} has shape {state.shapes[name]}, the model needs {tuple(full_shape(own[name]))}. "
                "Use the settings the checkpoint was made with."
            )
    for name in names:
        overwrite(own[name], partial(state.__getitem__, name))


def _build_beside(url: str, spec: VlaSpec) -> VisionLanguageAction:
    """Build from the files inside the model folder, so that neither hub nor network is asked."""
    if not files.exists(files.join(url, BACKBONE_FOLDER)):
        return build_vla(spec)
    with tempfile.TemporaryDirectory() as cache:
        return build_vla(spec, source=str(files.local_copy(files.join(url, BACKBONE_FOLDER), Path(cache))))


def _belongs_to_the_action(name: str) -> bool:
    return name.startswith("action_head.") or ".tokens.tables.action." in f".{name}"


def _belongs_to_a_head(name: str) -> bool:
    return name.startswith(("latent_head.", "action_head.", "proprioception.")) or ".tokens.tables." in f".{name}"
