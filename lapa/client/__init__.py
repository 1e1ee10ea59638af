"""What a robot's program uses to ask a policy server: numpy, websockets and msgpack, and nothing heavier."""

from lapa.client.buffer import ChunkBuffer
from lapa.client.connection import ActionAnswer, PolicyClient, Reconnect

__all__ = ["ActionAnswer", "ChunkBuffer", "PolicyClient", "Reconnect"]
