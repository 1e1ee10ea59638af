"""Does a bundle load in this very environment, does it act, and how fast? Numbers as JSON on stdout.

python -m lapa rehearse - URL CALLS
"""

import json
import sys
import time
from collections.abc import Sequence

import numpy as np

from lapa.config.run import RunConfig
from lapa.errors import PolicyError
from lapa.policy.bundle import load_bundle
from lapa.policy.policy import Policy
from lapa.policy.recorded import read_recorded, replay
from lapa.types.episodes import Observation

WARM_UP_CALLS = 3
FRAME_SIZE = 256
"""Of frames for a policy that takes any size."""


def main(run: RunConfig | None, arguments: Sequence[str]) -> None:
    """Print `{"digest", "load_seconds", "device", "calls", "p50_milliseconds", "replayed", "differing", …}`.

    PolicyError when it answers the observations that the bundle carries otherwise than at export.
    """
    url, calls = arguments[0], int(arguments[1])
    started = time.perf_counter()
    policy = load_bundle(url)
    loaded = time.perf_counter() - started
    recorded = read_recorded(url)
    differing = replay(policy, recorded) if recorded is not None else 0.0
    replayed = {"replayed": len(recorded.instructions) if recorded is not None else 0, "differing": differing}
    sys.stdout.write(json.dumps({"load_seconds": loaded, **replayed, **rehearse(policy, calls)}) + "\n")


def rehearse(policy: Policy, calls: int) -> dict[str, float | int | str]:
    """Act on noise, one observation at a time. PolicyError when a chunk has another shape than the policy says, or
    holds what is no number."""
    random = np.random.default_rng(0)
    seconds = []
    for call in range(WARM_UP_CALLS + calls):
        observation = _observation(policy, random)
        started = time.perf_counter()
        (chunk,) = policy.act([observation], ["pick up the red block"])
        if call >= WARM_UP_CALLS:
            seconds.append(time.perf_counter() - started)
        wanted = (policy.horizon, policy.space.size)
        if chunk.actions.shape != wanted:
            raise PolicyError(f"the policy answers with {chunk.actions.shape} numbers, its bundle promises {wanted}.")
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    return {
        "digest": policy.digest,
        "device": str(policy.device),
        "calls": calls,
        "p50_milliseconds": float(p50),
        "p99_milliseconds": float(p99),
        "horizon": policy.horizon,
        "action_dims": policy.space.size,
    }


def _observation(policy: Policy, random: np.random.Generator) -> Observation:
    side = policy.spec.frame_size or FRAME_SIZE
    state = np.array(policy.spec.proprioception_mean or [0.0] * policy.spec.proprioception_dims, dtype=np.float32)
    return Observation(
        image=random.integers(0, 256, (side, side, 3), dtype=np.uint8),
        proprioception=state if policy.spec.proprioception_dims else None,
    )
