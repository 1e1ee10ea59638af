"""`python contend.py URI WHO VERSION ROUNDS FOLDER`: promote in every round at the same moment as the other contenders.

Prints a line per round: `won` or `lost`. A round begins when every contender's file for it is in FOLDER.
"""

import sys
import time
from pathlib import Path

from lapa.errors import PromotionConflict
from lapa.tracking import ledger
from lapa.tracking.ledger import PRODUCTION, Decision
from lapa.tracking.registry import POLICY_MODEL, Registry

CONTENDERS = 2
PATIENCE_SECONDS = 1200


def main(uri: str, who: str, version: str, rounds: str, folder: str) -> None:
    registry = Registry(uri, wait_seconds=600)
    for number in range(int(rounds)):
        meet(Path(folder), f"before-{number}", who)  # nobody looks before the last round is over
        base = ledger.head_of(ledger.settle(registry, POLICY_MODEL))
        replaces = registry.aliases(POLICY_MODEL).get(PRODUCTION)
        meet(Path(folder), f"claim-{number}", who)
        decision = Decision(version=int(version), replaces=replaces, who=who)
        try:
            ledger.claim(registry, POLICY_MODEL, "s3://bucket/policy", decision, base=base)
        except PromotionConflict:
            print("lost", flush=True)  # noqa: T201
            continue
        ledger.apply(registry, POLICY_MODEL)
        print("won", flush=True)  # noqa: T201


def meet(folder: Path, where: str, who: str) -> None:
    """Go on when every contender is there."""
    (folder / f"{where}-{who}").touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.glob(f"{where}-*"))) < CONTENDERS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody else came to {where}")
        time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
