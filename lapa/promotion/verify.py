"""Whether the files of a registered version are still what was registered: a policy's, or any other model's."""

import json
from collections.abc import Callable

from lapa import files
from lapa.errors import CheckpointError
from lapa.policy.manifest import MANIFEST_FILE, bundle_files, file_digest, verify_bundle
from lapa.tracking.registry import ModelVersion

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
"""In the place of one file of weights, where they lie in several."""


def verify_version(version: ModelVersion, *, progress: Callable[[str], None] | None = None) -> dict[str, int]:
    """Bytes of every file that was read and is whole, by path. PolicyError or CheckpointError says what is not."""
    if files.exists(files.join(version.url, MANIFEST_FILE)):
        verify_bundle(version.url, expected=version.digest, progress=progress)
        return bundle_files(version.url)
    sizes = bundle_files(version.url)
    weights = INDEX_FILE if INDEX_FILE in sizes else WEIGHTS_FILE
    if not {CONFIG_FILE, weights} <= sizes.keys():
        raise CheckpointError(
            f"{version.url} holds neither {MANIFEST_FILE} nor {CONFIG_FILE} with {WEIGHTS_FILE}: the files of "
            f"{version.name}/{version.version} are gone. Bring them back, or make the stage again."
        )
    shards = _verified_shards(version, progress) if weights == INDEX_FILE else []
    if progress is not None:
        progress(weights)
    stored = files.read_json(files.join(version.url, CONFIG_FILE))
    parts = {"kind": stored["kind"], "config": stored["config"], "weights": file_digest(version.url, weights)}
    found = files.digest(json.dumps(parts, sort_keys=True))  # as `lapa.models.storage.save_model` makes it
    if found != version.digest:
        raise CheckpointError(
            f"{version.url} is not what {version.name}/{version.version} was registered with: its digest is "
            f"{found[:12]}…, {version.digest[:12]}… was registered. Copy it again, or make the stage again."
        )
    return {name: sizes[name] for name in (CONFIG_FILE, weights, *shards)}


def _verified_shards(version: ModelVersion, progress: Callable[[str], None] | None) -> list[str]:
    """Files of the weights that are what their index says; CheckpointError names one that is not."""
    digests: dict[str, str] = files.read_json(files.join(version.url, INDEX_FILE))["metadata"]["sha256"]
    for name, wanted in digests.items():
        if progress is not None:
            progress(name)
        if not files.exists(files.join(version.url, name)) or file_digest(version.url, name) != wanted:
            raise CheckpointError(
                f"{version.url}/{name} is gone or is not what {version.name}/{version.version} was registered with. "
                "Copy it again, or make the stage again."
            )
    return list(digests)
