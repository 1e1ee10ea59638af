"""A policy as one artifact: weights, processor, action space, resolved run and lineage travel together.

model/          the model folder (config.json holds the action space and its bins)
policy.json     schema version, action space, lineage, licences, the resolved run
manifest.json   SHA-256 of every other file; written last
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lapa import files
from lapa.errors import PolicyError
from lapa.models.storage import file_digest
from lapa.models.vla.storage import load_vla, load_vla_spec
from lapa.policy.policy import Policy

SCHEMA_VERSION = 1
MODEL_FOLDER = "model"
POLICY_FILE = "policy.json"
MANIFEST_FILE = "manifest.json"


def export_bundle(
    folder: Path,
    model_url: str,
    *,
    lineage: Mapping[str, Any],
    resolved_run: Mapping[str, Any],
    licences: Mapping[str, int] | None = None,
) -> str:
    """Write a bundle into an empty folder; returns its digest.

    `lineage` names what the policy was made from, `licences` counts the episodes under each licence.
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
            "run": dict(resolved_run),
        },
    )
    manifest = {"schema_version": SCHEMA_VERSION, "files": _digests(folder)}
    files.write_json(str(folder / MANIFEST_FILE), manifest)
    return _bundle_digest(manifest)


def load_bundle(url: str, *, device: str | None = None, seed: int = 0) -> Policy:
    """The policy at `url`, every file checked first; PolicyError names a file that is missing, altered or unknown.

    `device`: `cpu`, `cuda`, …; the accelerator when there is one and none is given.
    """
    if not files.exists(files.join(url, MANIFEST_FILE)):
        raise PolicyError(f"{url} holds no {MANIFEST_FILE}: the export did not finish, or this is no policy bundle.")
    with tempfile.TemporaryDirectory(prefix="lapa-bundle-") as cache:
        folder = files.local_copy(url, Path(cache))
        digest = verify(folder, url)
        model = load_vla(str(folder / MODEL_FOLDER))
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Policy(model, digest=digest, device=chosen, seed=seed)


def read_policy_card(url: str) -> dict[str, Any]:
    """What `policy.json` says, without loading the model."""
    return dict(files.read_json(files.join(url, POLICY_FILE)))


def verify(folder: Path, url: str) -> str:
    """The bundle's digest, once every file has the digest its manifest names. `url` is for the message."""
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise PolicyError(
            f"{url} has schema version {manifest.get('schema_version')}, this version reads {SCHEMA_VERSION}. "
            "Export the policy again, or use the matching version of lapa."
        )
    named, found = manifest["files"], _digests(folder)
    for path in sorted(named.keys() | found.keys()):
        if named.get(path) == found.get(path):
            continue
        fault = "is missing" if path not in found else "is not in the manifest" if path not in named else "was altered"
        raise PolicyError(f"{path} in {url} {fault}. Copy the bundle again, or export it again from its training run.")
    return _bundle_digest(manifest)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest, by its path inside the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: file_digest(path) for name, path in named.items() if name != MANIFEST_FILE}


def _bundle_digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
