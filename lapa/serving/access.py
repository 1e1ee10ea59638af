"""Who may ask: tokens, compared in constant time, for HTTP and websockets alike."""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lapa.config.serving import TOKEN_VARIABLE, ServingConfig
from lapa.errors import ConfigError

OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
"""Probes carry no token, and learn no more than up or down."""

SHORTEST_TOKEN = 16

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Tokens:
    """The accepted tokens, kept as digests: equal in length, so that comparing tells nothing."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, header: str | None) -> bool:
        """Whether an `Authorization` header carries an accepted token. Every token is compared, always."""
        digest = hashlib.sha256(_offered(header or "").encode()).digest()
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0


def load_tokens(config: ServingConfig) -> Tokens:
    """From the file or the environment, never from the command line, which every user of the machine can read.

    Raises ConfigError for no token where other machines reach the server, and for one that can be guessed.
    """
    tokens = _from_file(config.token_file) if config.token_file else _from_environment()
    short = [token for token in tokens if len(token) < SHORTEST_TOKEN]
    if short:
        raise ConfigError(
            f"a token has {len(short[0])} characters; take at least {SHORTEST_TOKEN}, for example from "
            "`openssl rand -hex 32`."
        )
    if not tokens and config.host not in _LOOPBACK and not config.is_open:
        raise ConfigError(
            f"the server would listen on {config.host} and answer whoever asks. Give it a token in "
            f"{TOKEN_VARIABLE} or --token-file, keep it on 127.0.0.1, or say --insecure."
        )
    return Tokens(tokens)


def _from_file(path: str) -> Sequence[str]:
    try:
        tokens = Path(path).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}.") from error
    if not tokens:
        raise ConfigError(f"the token file {path} is empty; write one token a line.")
    return tokens


def _from_environment() -> Sequence[str]:
    return os.environ.get(TOKEN_VARIABLE, "").split()


def _offered(header: str) -> str:
    """The token of `Bearer` (everybody), `Api-Key` (openpi) and `Basic` (clients that only take a URL)."""
    scheme, _, value = header.partition(" ")
    match scheme.lower():
        case "bearer" | "api-key":
            return value.strip()
        case "basic":
            return _password(value.strip())
        case _:
            return ""


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
