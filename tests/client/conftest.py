"""The server that the serving tests share."""

from tests.serving.conftest import bundle, expected, frame, policy, server, shared_server, state

__all__ = ["bundle", "expected", "frame", "policy", "server", "shared_server", "state"]
