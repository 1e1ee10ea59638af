"""The manifest of a policy bundle: which files belong to it, and the SHA-256 of each. Needs no torch.

A bundle is checked where it lies: files are read through, not copied. Whatever could run code when it is
loaded (pickles, Python) is refused before anything opens it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from lapa import files
from lapa.errors import PolicyError

SCHEMA_VERSION = 1
MODEL_FOLDER = "model"
POLICY_FILE = "policy.json"
MANIFEST_FILE = "manifest.json"
RECORDED_FILE = "recorded.safetensors"
"""Observations and the policy's answers to them, where the bundle carries some: `lapa.policy.recorded`."""
BLOCK_BYTES = 8 * 1024**2

CODE_SUFFIXES = (".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".py", ".so")
"""Of files that loaders unpickle, import or link."""
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_ZIP_START = b"PK\x03\x04"  # what torch.save writes


def write_manifest(folder: Path) -> str:
    """Name every file of a folder in its manifest; returns the bundle's digest. PolicyError for a pickle."""
    found = _digests(str(folder), None)
    manifest = {"schema_version": SCHEMA_VERSION, "files": found}
    files.write_json(str(folder / MANIFEST_FILE), manifest)
    return bundle_digest(manifest)


def read_manifest(url: str) -> dict[str, Any]:
    """PolicyError where there is none, where it is no JSON, or where it is of another schema version."""
    path = files.join(url, MANIFEST_FILE)
    try:
        manifest = json.loads(files.read_bytes(path))
    except FileNotFoundError as error:
        raise PolicyError(
            f"{url} holds no {MANIFEST_FILE}: the export did not finish, or this is no policy bundle. Export it again."
        ) from error
    except ValueError as error:
        raise PolicyError(f"{path} is damaged: {error}. Copy the bundle again, or export it again.") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise PolicyError(
            f"{url} has schema version {version}, this version reads {SCHEMA_VERSION}. "
            "Export the policy again, or use the matching version of lapa."
        )
    return dict(manifest)


def verify_bundle(
    url: str,
    *,
    expected: str | None = None,
    shown: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> str:
    """The bundle's digest, once every file has the digest that its manifest names. Reads every byte.

    `shown` is the address that messages use, where `url` is a copy of it; `progress` is told each file's name.
    PolicyError names the file that is missing, altered or unknown, or the digest that was `expected`.
    """
    manifest = read_manifest(url)
    named, found = manifest["files"], _digests(url, progress)
    url = shown or url
    for path in sorted(named.keys() | found.keys()):
        if named.get(path) == found.get(path):
            continue
        fault = "is missing" if path not in found else "is not in the manifest" if path not in named else "was altered"
        raise PolicyError(f"{path} in {url} {fault}. Copy the bundle again, or export it again from its training run.")
    digest = bundle_digest(manifest)
    if expected is not None and digest != expected:
        raise PolicyError(
            f"{url} is whole, but it is another bundle: its digest is {digest[:12]}…, {expected[:12]}… was expected. "
            "Somebody wrote another policy there; export this one to a folder of its own."
        )
    return digest


def bundle_digest(manifest: Mapping[str, Any]) -> str:
    """Names the content of the whole bundle."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def read_policy_card(url: str) -> dict[str, Any]:
    """What `policy.json` says: action space, lineage, licences, the resolved run."""
    try:
        return dict(files.read_json(files.join(url, POLICY_FILE)))
    except FileNotFoundError as error:
        raise PolicyError(f"{url} holds no {POLICY_FILE}: it is no policy bundle, or not a whole one.") from error
    except ValueError as error:
        raise PolicyError(f"{files.join(url, POLICY_FILE)} is damaged: {error}. Export the bundle again.") from error


def bundle_files(url: str) -> dict[str, int]:
    """Bytes of every file under a folder but its manifest, by path inside it."""
    fs, root = url_to_fs(url)
    fs.invalidate_cache()
    root = root.rstrip("/")
    found = fs.find(root, detail=True)
    sizes = {str(path)[len(root) + 1 :]: int(entry["size"]) for path, entry in found.items()}
    return {name: size for name, size in sorted(sizes.items()) if name != MANIFEST_FILE}


def file_digest(url: str, name: str) -> str:
    """SHA-256 of one file of a bundle. PolicyError when it is of a kind that runs code."""
    sha = hashlib.sha256()
    with fsspec.open(files.join(url, name), "rb") as file:
        block = file.read(BLOCK_BYTES)
        _refuse_code(url, name, block[:4])
        while block:
            sha.update(block)
            block = file.read(BLOCK_BYTES)
    return sha.hexdigest()


def _digests(url: str, progress: Callable[[str], None] | None) -> dict[str, str]:
    """SHA-256 of every file but the manifest, by its path inside the folder."""
    found = {}
    for name in bundle_files(url):
        if progress is not None:
            progress(name)
        found[name] = file_digest(url, name)
    return found


def _refuse_code(url: str, name: str, start: bytes) -> None:
    suffix = PurePosixPath(name).suffix.lower()
    # A safetensors file begins with its header's length, which may look like a pickle and is parsed as a number.
    is_pickle = suffix != ".safetensors" and (start.startswith(_PICKLE_STARTS) or start.startswith(_ZIP_START))
    if is_pickle or suffix in CODE_SUFFIXES:
        raise PolicyError(
            f"{name} in {url} is of a kind that runs code when it is loaded; a bundle holds safetensors, JSON and "
            "text only. Export the policy again with `lapactl export`, and do not load this one."
        )
