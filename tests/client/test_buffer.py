"""Chunks become actions at the robot's own rate, and time that passed is not executed twice."""

import threading

import numpy as np
import pytest

from lapa.client import ActionAnswer, ChunkBuffer
from lapa.client.connection import ServerAway

IMAGE = np.zeros((2, 2, 3), np.uint8)
PATIENCE = 240


class Server:
    """Chunk number c holds the actions 10 c, 10 c + 1, …; answers when it may."""

    def __init__(self, horizon: int = 4) -> None:
        self.asked, self.horizon, self.resets = 0, horizon, 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_away = False

    def infer(self, image, instruction, proprioception=None) -> ActionAnswer:
        self.asked += 1
        number = self.asked
        assert self.may_answer.wait(PATIENCE)
        if self.is_away:
            raise ServerAway("nobody there")
        actions = 10.0 * number + np.arange(self.horizon)[:, None]
        return ActionAnswer(actions=actions, model={}, timing={}, clamped=0, request_id="")

    def reset(self) -> str:
        self.resets += 1
        return ""


def actions(buffer: ChunkBuffer, number: int) -> list[float]:
    return [float(buffer.action(IMAGE, "push")[0]) for _ in range(number)]


def arrived(buffer: ChunkBuffer) -> None:
    """Wait for the chunk that is under way."""
    assert buffer._asking is not None
    buffer._asking.exception(PATIENCE)


def test_a_chunk_is_executed_whole_before_the_next_is_asked_for():
    assert actions(ChunkBuffer(Server()), 9) == [10, 11, 12, 13, 20, 21, 22, 23, 30]


def test_only_the_first_actions_are_used_where_that_is_asked_for():
    assert actions(ChunkBuffer(Server(), execute=2), 5) == [10, 11, 20, 21, 30]


def test_a_chunk_asked_for_ahead_begins_where_time_is():
    server = Server()
    buffer = ChunkBuffer(server, ahead=2)
    assert actions(buffer, 2) == [10, 11]
    server.may_answer.clear()
    assert actions(buffer, 1) == [12]  # two were left: the second chunk is under way from here on
    server.may_answer.set()
    arrived(buffer)
    assert actions(buffer, 2) == [21, 22]  # 20 was for the moment that 12 was executed in


def test_while_the_server_is_away_the_rest_of_the_chunk_is_executed():
    server = Server()
    buffer = ChunkBuffer(server, ahead=2)
    assert actions(buffer, 2) == [10, 11]
    server.is_away = True
    assert actions(buffer, 1) == [12]
    arrived(buffer)
    assert actions(buffer, 1) == [13]
    with pytest.raises(ServerAway):
        buffer.action(IMAGE, "push")
    server.is_away = False
    assert actions(buffer, 1)[0] >= 20


def test_a_reset_throws_the_rest_away():
    server = Server()
    buffer = ChunkBuffer(server)
    assert actions(buffer, 2) == [10, 11]
    buffer.reset()
    assert actions(buffer, 2) == [20, 21] and server.resets == 1
