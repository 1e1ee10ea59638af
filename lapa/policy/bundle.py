"""A policy as one artifact: weights, processor, action space, resolved run and lineage travel together.

model/          the model folder (config.json holds the action space and its bins)
policy.json     schema version, action space, conventions, lineage, licences, the resolved run
recorded.safetensors  a few observations and what the policy answered: whoever loads it can ask again
manifest.json   SHA-256 of every other file; written last
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lapa import files
from lapa.config.conventions import Conventions
from lapa.errors import PolicyError
from lapa.models.vla.storage import load_vla, load_vla_spec
from lapa.policy.agreement import CONVENTIONS, card_of
from lapa.policy.manifest import MODEL_FOLDER, POLICY_FILE, SCHEMA_VERSION, read_manifest, verify_bundle, write_manifest
from lapa.policy.policy import Policy
from lapa.policy.recorded import record_answers, write_recorded
from lapa.types.episodes import Observation


def export_bundle(
    folder: Path,
    model_url: str,
    *,
    lineage: Mapping[str, Any],
    resolved_run: Mapping[str, Any],
    licences: Mapping[str, int] | None = None,
    conventions: Conventions | None = None,
    observations: Sequence[tuple[Observation, str]] = (),
) -> str:
    """Write a bundle into an empty folder; returns its digest.

    `lineage` names what the policy was made from, `licences` counts the episodes under each licence, `conventions` are
    those of the episodes that it learned actions from. `observations`, each with its instruction, travel in the bundle
    with the policy's answers; without them nobody can replay it.
    """
    spec = load_vla_spec(model_url)
    if spec.actions is None or spec.head is None:
        raise PolicyError(f"{model_url} has no action head; finetune it before exporting a policy.")
    with tempfile.TemporaryDirectory(prefix="lapa-bundle-") as cache:
        files.upload(files.local_copy(model_url, Path(cache)), str(folder / MODEL_FOLDER), last="config.json")
    files.write_json(
        str(folder / POLICY_FILE),
        {
            "schema_version": SCHEMA_VERSION,
            "action_space": spec.actions.model_dump(mode="json"),
            "horizon": spec.head.horizon,
            "proprioception_dims": spec.proprioception_dims,
            "frame_size": spec.frame_size,
            "frame_resize": spec.frame_resize,
            "lineage": dict(lineage),
            "licences": dict(licences or {}),
            CONVENTIONS: card_of(conventions or Conventions()),
            "run": dict(resolved_run),
        },
    )
    if observations:
        policy = Policy(load_vla(str(folder / MODEL_FOLDER)), device=_device(None))
        seen, instructions = zip(*observations, strict=True)
        write_recorded(folder, record_answers(policy, seen, instructions))
    return write_manifest(folder)


def load_bundle(url: str, *, device: str | None = None, seed: int = 0) -> Policy:
    """The policy at `url`, every file checked first; PolicyError names a file that is missing, altered or unknown.

    `device`: `cpu`, `cuda`, …; the accelerator when there is one and none is given.
    """
    read_manifest(url)  # before a large folder is copied that is no bundle
    with tempfile.TemporaryDirectory(prefix="lapa-bundle-") as cache:
        folder = files.local_copy(url, Path(cache))
        digest = verify_bundle(str(folder), shown=url)
        model = load_vla(str(folder / MODEL_FOLDER))
    return Policy(model, digest=digest, device=_device(device), seed=seed)


def _device(asked: str | None) -> str:
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")
