"""Secrets travel by reference only: what looks like one is refused before it reaches a manifest.

A manifest is stored in etcd, in MLflow and in people's terminals; a Secret's name in it gives nothing away.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = re.compile(r"SECRET|TOKEN|PASSW(OR)?D|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_HARMLESS = re.compile(r"TOKENIZERS?_|_TOKENS?_(PER|LIMIT)|_(FILE|PATH|DIR)$", re.IGNORECASE)
_VALUES = {
    "a URL with a password": re.compile(r"\b[a-zA-Z][\w+.-]*://[^/\s:@'\"]*:[^/\s@'\"]+@"),
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}\b"),
}


def names_a_secret(name: str) -> bool:
    """Whether a variable of this name usually holds a secret."""
    return bool(_NAMES.search(name)) and not _HARMLESS.search(name)


def secret_in(text: str) -> str | None:
    """What kind of secret a text holds, in words; None for none."""
    return next((kind for kind, pattern in _VALUES.items() if pattern.search(text)), None)


def refuse_secrets(where: str, text: str) -> str:
    """The text itself. Raises ValueError where it holds a secret; the message does not repeat it."""
    if kind := secret_in(text):
        raise ValueError(
            f"{where} holds {kind}. Put it into a Kubernetes Secret and name that: "
            "storage.secret, tracking.secret, or secrets.NAME={secret: …, key: …}"
        )
    return text


def refuse_secret_variables(environment: Mapping[str, str]) -> None:
    """Raises ValueError for a variable that names or holds a secret."""
    for name, value in environment.items():
        if names_a_secret(name):
            raise ValueError(
                f"environment.{name} looks like a secret, and manifests hold none. Put it into a Kubernetes Secret "
                f"and refer to it: secrets.{name}={{secret: NAME-OF-THE-SECRET, key: {name}}}"
            )
        refuse_secrets(f"environment.{name}", value)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in nested plain data, keys too."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                yield from texts_of(key)
                yield from texts_of(item)
        case list() | tuple():
            for item in value:
                yield from texts_of(item)
