"""Drive the embedded tabletop through a policy server, in closed loop, as a robot would be driven.

    lapactl serve work/finetune-…/policy --port 8000 &
    python examples/tabletop_through_server.py ws://localhost:8000 --episodes 20

A token comes from LAPA_SERVER_TOKEN. The episodes are those that the stage `evaluate` plays, so the two success rates
are about the same policy on the same tables.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from lapa.client import PolicyClient
from lapa.config.stages import TabletopEvaluation
from lapa.envs.build import build_simulator
from lapa.envs.evaluation import evaluate
from lapa.types.episodes import ActionChunk, Observation


class Remote:
    """What `evaluate` asks for, answered by the server."""

    def __init__(self, client: PolicyClient) -> None:
        self.client = client

    def __call__(self, observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        answers = [
            self.client.infer(observation.image, instruction, observation.proprioception)
            for observation, instruction in zip(observations, instructions, strict=True)
        ]
        return [ActionChunk(actions=answer.actions, policy_digest=answer.model["digest"]) for answer in answers]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="ws://HOST:PORT")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=TabletopEvaluation().seed)
    options = parser.parse_args(arguments)
    with PolicyClient(options.url, token=os.environ.get("LAPA_SERVER_TOKEN")) as client:
        side = int(client.metadata["frame_size"])
        config = TabletopEvaluation(episodes=options.episodes, seed=options.seed)
        results = evaluate(Remote(client), build_simulator(config, image_size=side))
        summary = results.summary(0.95)
        sys.stdout.write(
            f"{client.metadata['name']} {client.metadata['digest'][:12]}: success {summary['success_rate']:.1%} "
            f"[{summary['low']:.1%}, {summary['high']:.1%}] over {summary['episodes']} episodes\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
