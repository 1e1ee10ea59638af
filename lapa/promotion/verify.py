"""Whether the files of a registered version are still what was registered: a policy's, or any other model's."""

import json
from collections.abc import Callable

from lapa import files
from lapa.errors import CheckpointError
from lapa.policy.manifest import MANIFEST_FILE, bundle_files, file_digest, verify_bundle
from lapa.tracking.registry import ModelVersion

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def verify_version(version: ModelVersion, *, progress: Callable[[str], None] | None = None) -> dict[str, int]:
    """Bytes of every file that was read and is whole, by path. PolicyError or CheckpointError says what is not."""
    if files.exists(files.join(version.url, MANIFEST_FILE)):
        verify_bundle(version.url, expected=version.digest, progress=progress)
        return bundle_files(version.url)
    sizes = bundle_files(version.url)
    if not {CONFIG_FILE, WEIGHTS_FILE} <= sizes.keys():
        raise CheckpointError(
            f"{version.url} holds neither {MANIFEST_FILE} nor {CONFIG_FILE} with {WEIGHTS_FILE}: the files of "
            f"{version.name}/{version.version} are gone. Bring them back, or make the stage again."
        )
    if progress is not None:
        progress(WEIGHTS_FILE)
    stored = files.read_json(files.join(version.url, CONFIG_FILE))
    parts = {"kind": stored["kind"], "config": stored["config"], "weights": file_digest(version.url, WEIGHTS_FILE)}
    found = files.digest(json.dumps(parts, sort_keys=True))  # as `lapa.models.storage.save_model` makes it
    if found != version.digest:
        raise CheckpointError(
            f"{version.url} is not what {version.name}/{version.version} was registered with: its digest is "
            f"{found[:12]}…, {version.digest[:12]}… was registered. Copy it again, or make the stage again."
        )
    return {name: sizes[name] for name in (CONFIG_FILE, WEIGHTS_FILE)}
