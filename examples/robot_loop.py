"""The control loop of a real robot: a fixed rate, chunks asked for ahead, and a hand on the brake.

    python examples/robot_loop.py ws://robot-server:8000 "pick up the red block" --dry-run

Write a class with the four methods of `Robot` for yours. The loop never waits for the network while it has actions to
execute; when it runs out of them, or the server refuses, the robot holds still.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from lapa.client import ChunkBuffer, PolicyClient, Reconnect
from lapa.client.connection import ServerAway, ServerRefused


class Robot(Protocol):
    """What the loop asks of a robot."""

    action_names: tuple[str, ...]
    """As the episodes named them that the policy was finetuned on; a server of another robot's policy is refused."""

    def camera(self) -> np.ndarray:
        """RGB, uint8, height x width x 3."""

    def state(self) -> np.ndarray | None:
        """Proprioception as it was recorded; None for a policy that does not look at it."""

    def command(self, action: np.ndarray) -> None:
        """Begin to execute an action; do not wait for its end."""

    def hold(self) -> None:
        """Stay where you are, now."""


class DryRobot:
    """Stands in for a robot: sees noise, writes down what it is told."""

    def __init__(self, action_names: Sequence[str], state_dims: int, side: int = 224) -> None:
        self.action_names = tuple(action_names)
        self._state_dims, self._side = state_dims, side
        self._noise = np.random.default_rng(0)
        self.commands: list[np.ndarray] = []
        self.held = 0

    def camera(self) -> np.ndarray:
        return self._noise.integers(0, 256, (self._side, self._side, 3), dtype=np.uint8)

    def state(self) -> np.ndarray | None:
        return np.zeros(self._state_dims, dtype=np.float32) if self._state_dims else None

    def command(self, action: np.ndarray) -> None:
        self.commands.append(action)

    def hold(self) -> None:
        self.held += 1


def run(
    robot: Robot,
    buffer: ChunkBuffer,
    instruction: str,
    *,
    hz: float,
    timesteps: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Execute an instruction; returns why it ended. Whatever happens, the robot holds at the end."""
    try:
        buffer.reset()
        due = clock()
        for _ in range(timesteps):
            action = buffer.action(robot.camera(), instruction, robot.state())
            robot.command(action)
            due += 1 / hz
            if (left := due - clock()) > 0:
                sleep(left)
            else:
                due = clock()  # late already: never hurry to catch up
    except ServerRefused as refusal:
        return f"the server refused: {refusal}"
    except ServerAway as away:
        return f"the server is away: {away}"
    finally:
        robot.hold()
    return "done"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="ws://HOST:PORT; the token comes from LAPA_SERVER_TOKEN")
    parser.add_argument("instruction")
    parser.add_argument("--hz", type=float, default=10.0, help="timesteps per second, as the episodes were recorded")
    parser.add_argument("--timesteps", type=int, default=50)
    parser.add_argument("--ahead", type=int, default=2, help="ask for the next chunk when so many actions are left")
    parser.add_argument("--dry-run", action="store_true", help="move nothing; see noise (all that this example can)")
    options = parser.parse_args(arguments)
    if not options.dry_run:
        parser.error("this example knows no robot: write a class with the methods of Robot, or say --dry-run")
    # A robot that stands still for longer than this should be looked at by somebody.
    patience = Reconnect(seconds=10.0, answer_seconds=5.0)
    with PolicyClient(options.url, token=os.environ.get("LAPA_SERVER_TOKEN"), reconnect=patience) as client:
        robot = DryRobot(client.metadata["action_names"], client.metadata["proprioception_dims"])
        buffer = ChunkBuffer(client, ahead=options.ahead)
        ended = run(robot, buffer, options.instruction, hz=options.hz, timesteps=options.timesteps)
        buffer.close()
    sys.stdout.write(f"{len(robot.commands)} actions, then: {ended}\n")
    return 0 if ended == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
