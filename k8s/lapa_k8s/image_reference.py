"""How an image is named; pure."""

import re
from typing import NamedTuple

_NAME = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"^(?:(?P<registry>[a-zA-Z0-9.-]+(?::\d+)?)/)?(?P<path>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?$"
)


class ImageReference(NamedTuple):
    registry: str | None
    """None where the name has no part that could be one."""
    path: str
    tag: str | None
    digest: str | None


def parse_reference(text: str) -> ImageReference | None:
    """The parts of `registry/name:tag@sha256:…`; None where no container engine would take it."""
    match = _REFERENCE.match(text)
    return ImageReference(**match.groupdict()) if match else None
