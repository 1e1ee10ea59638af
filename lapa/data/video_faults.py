"""What is wrong with a video, in plain words: libav's own, an error number mostly, are the cause that a log keeps."""

from pathlib import Path
from typing import IO

import av

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
"""With one of which an mp4 or mov begins, after four bytes of its size."""
_CONTAINERS = {b"\x1aE\xdf\xa3": "a webm or mkv", b"RIFF": "an avi"}
_CUT_SHORT = "most likely it was cut short, as by a download or a recording that did not end"


def unopened(error: Exception, video: bytes | str | Path | IO[bytes]) -> str:
    """Why a video cannot be opened, by what the file begins with."""
    if isinstance(error, OSError):  # of the disk, not of the file
        return error.strerror or type(error).__name__
    if (special := _not_supported(error)) is not None:
        return special
    start = _start_of(video)
    if not start:
        return "the file is empty"
    if not any(start):
        return "it begins with zeros, as a file whose copy did not end"
    if start[4:8] in _BOXES:
        return f"it begins like an mp4, and its index is missing or damaged: {_CUT_SHORT}"
    if (name := _CONTAINERS.get(start[:4])) is not None:
        return f"it begins like {name}, and no frame follows: {_CUT_SHORT}"
    return "what is in it is no video that can be read here, whatever its name says"


def undecoded(error: Exception) -> str:
    """Why a video that was opened cannot be decoded any further."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return _not_supported(error) or "what follows is no valid video data, as after a faulty copy"


def _not_supported(error: Exception) -> str | None:
    if isinstance(error, av.error.DecoderNotFoundError | av.error.PatchWelcomeError):
        return "its codec, or a feature of it, cannot be decoded here; re-encode it"
    return None


def _start_of(video: bytes | str | Path | IO[bytes]) -> bytes:
    if isinstance(video, bytes):
        return video[:16]
    if isinstance(video, str | Path):
        with Path(video).open("rb") as file:
            return file.read(16)
    video.seek(0)
    return video.read(16)
