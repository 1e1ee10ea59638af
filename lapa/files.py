"""The few file operations that every part needs, on any fsspec URL: a local path, ``s3://…``, ``memory://…``.

Object stores have no rename and no empty folders: a file becomes visible whole, and a folder is complete
when the file written last into it (its manifest) exists. Whoever is not let in hears of it as AccessRefused.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from lapa.errors import AccessRefused

_NOT_THE_FIRST = ("PreconditionFailed", "ConditionalRequestConflict", "pre-conditions")
"""How S3 says that a conditional write came second."""


def join(url: str, *parts: str) -> str:
    """`url/part/part`, whatever the protocol."""
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])


def name_of(url: str) -> str:
    """Last part of a URL."""
    return PurePosixPath(url.rstrip("/")).name


def local_path(url: str) -> Path | None:
    """The path of a local URL, None for a remote one."""
    fs, path = url_to_fs(url)
    return Path(path) if _is_local(fs) else None


def exists(url: str) -> bool:
    fs, path = url_to_fs(url)
    with _let_in(url):
        return bool(fs.exists(path))


def read_bytes(url: str) -> bytes:
    with _let_in(url), fsspec.open(url, "rb") as file:
        return bytes(file.read())


def write_bytes(url: str, data: bytes) -> None:
    """Write a file that readers see whole or not at all."""
    fs, path = url_to_fs(url)
    with _let_in(url):
        if not _is_local(fs):
            fs.pipe_file(path, data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two writers of one file must not meet in a half-written one.
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
        partial.write_bytes(data)
        partial.replace(target)


def create(url: str, data: bytes) -> bool:
    """Write a small file that is not there yet; whether it was this call that made it.

    Of several callers one succeeds, where the store knows conditional writes (local files, S3, GCS). What is there
    is read back, so that others mostly keep to it too.
    """
    fs, path = url_to_fs(url)
    with _let_in(url):
        try:
            if _is_local(fs):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with Path(path).open("xb") as file:
                    file.write(data)
                return True
            fs.pipe_file(path, data, mode="create")
            fs.invalidate_cache()
            return bool(fs.cat_file(path) == data)
        except (FileExistsError, FileNotFoundError):
            return False  # somebody's, or somebody's who is done with it
        except OSError as error:
            if any(word in str(error) for word in _NOT_THE_FIRST):
                return False
            raise


def read_json(url: str) -> Any:
    return json.loads(read_bytes(url))


def write_json(url: str, value: Any) -> None:
    write_bytes(url, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")


def list_names(url: str) -> list[str]:
    """Names directly inside a folder, sorted; empty when there is no such folder."""
    return [name_of(entry["name"]) for entry in _entries(url)]


def list_sizes(url: str) -> dict[str, int]:
    """Bytes of each file directly inside a folder, by name; empty when there is no such folder."""
    return {name_of(entry["name"]): int(entry["size"]) for entry in _entries(url) if entry["type"] == "file"}


def upload(local: Path, url: str, *, last: str | None = None) -> None:
    """Copy a folder's files to `url`; the one named `last` goes when all others are there."""
    fs, path = url_to_fs(url)
    files = [file for file in sorted(local.rglob("*")) if file.is_file()]
    for file in sorted(files, key=lambda file: file.relative_to(local).as_posix() == last):
        target = join(path, file.relative_to(local).as_posix())
        if _is_local(fs):
            write_bytes(target, file.read_bytes())
        else:
            with _let_in(url):
                fs.put_file(str(file), target)


def local_copy(url: str, cache: Path) -> Path:
    """The folder or file itself when it is local, else a copy of it under `cache`."""
    fs, path = url_to_fs(url)
    if _is_local(fs):
        return Path(path)
    target = cache / hashlib.sha256(url.encode()).hexdigest()[:16] / name_of(url)
    with _let_in(url):
        if fs.isdir(path):
            fs.get(path.rstrip("/") + "/", str(target) + "/", recursive=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(path, str(target))
    return target


def remove(url: str) -> None:
    """Remove a file or a folder; nothing happens where there is none."""
    fs, path = url_to_fs(url)
    with _let_in(url):
        if fs.exists(path):
            fs.rm(path, recursive=True)


class Digest:
    """SHA-256 over parts, each with its length."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, part: bytes | str) -> None:
        data = part.encode() if isinstance(part, str) else part
        self._sha.update(len(data).to_bytes(8, "big"))
        self._sha.update(data)

    def hex(self) -> str:
        return self._sha.hexdigest()


def digest(*parts: bytes | str) -> str:
    """SHA-256 over parts, each with its length, as hexadecimal text."""
    found = Digest()
    for part in parts:
        found.add(part)
    return found.hex()


def digest_number(text: str) -> int:
    """The first 64 bits of its digest: 8 bytes of each of many texts tell them apart."""
    return int(digest(text)[:16], 16)


def _entries(url: str) -> list[dict[str, Any]]:
    """What lies directly inside a folder, by name, as it is now."""
    fs, path = url_to_fs(url)
    fs.invalidate_cache()
    try:
        with _let_in(url):
            return sorted(fs.ls(path, detail=True), key=lambda entry: name_of(entry["name"]))
    except FileNotFoundError:
        return []


@contextmanager
def _let_in(url: str) -> Iterator[None]:
    """Stores say "Forbidden", and not of what: name it."""
    try:
        yield
    except PermissionError as error:
        raise AccessRefused(
            f"{url} may not be used ({error}). Check the credentials and their rights: `lapactl doctor` tries them."
        ) from error


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
