"""What the server says no to: one exception, an HTTP status, a short reason that metrics count."""

from typing import Literal

from lapa.errors import ServingError

Reason = Literal[
    "unauthorized",
    "malformed",
    "too_large",
    "too_slow",
    "overloaded",
    "deadline",
    "unready",
    "unsafe_action",
    "internal",
]
"""The closed list, so that a metric never grows with what clients send."""

_STATUS: dict[Reason, int] = {
    "unauthorized": 401,
    "malformed": 400,
    "too_large": 413,
    "too_slow": 408,
    "overloaded": 429,
    "deadline": 504,
    "unready": 503,
    "unsafe_action": 500,
    "internal": 500,
}


class Refusal(ServingError):
    """A request that gets no action. The message goes to the client: it never holds what only the server knows."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    @property
    def status(self) -> int:
        return _STATUS[self.reason]
