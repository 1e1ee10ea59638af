"""Observations that travel in a bundle with the actions the policy chose for them when it was exported.

A server that loads the bundle replays them before it takes requests: other weights, another preprocessing or a
broken device show there, and not on a robot. n observations, k chunk length, a action dimensions, p proprioception.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from lapa import files
from lapa.errors import PolicyError
from lapa.policy.manifest import RECORDED_FILE, read_manifest
from lapa.policy.policy import Policy
from lapa.types.episodes import Observation

NEAR = 0.01
"""Share of a dimension's range by which devices may differ: rounding moves a regressed number, seldom a bin."""
MAY_DIFFER = 0.05
"""Share of the numbers that may be further off: the likeliest of two equal bins is a coin's toss."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the policy saw and answered at export."""

    observations: tuple[Observation, ...]
    instructions: tuple[str, ...]
    actions: Float32[np.ndarray, "n k a"]


def record_answers(policy: Policy, observations: Sequence[Observation], instructions: Sequence[str]) -> Recorded:
    """The policy's answers, one observation at a time and with the noise of a fresh policy: as replay asks."""
    return Recorded(
        observations=tuple(observations),
        instructions=tuple(instructions),
        actions=_answers(policy, observations, instructions),
    )


def write_recorded(folder: Path, recorded: Recorded) -> None:
    """Into a bundle's folder, before its manifest is written. Images have one size, as datasets give them."""
    tensors = {
        "images": np.stack([observation.image for observation in recorded.observations]),
        "instructions": np.frombuffer(json.dumps(recorded.instructions).encode(), dtype=np.uint8),
        "actions": recorded.actions,
    }
    states = [observation.proprioception for observation in recorded.observations]
    if all(state is not None for state in states):
        tensors["proprioception"] = np.stack([state for state in states if state is not None])
    save_file(tensors, folder / RECORDED_FILE)


def read_recorded(url: str) -> Recorded | None:
    """What a bundle carries; None where it carries nothing. PolicyError when it is not what the manifest names."""
    wanted = read_manifest(url)["files"].get(RECORDED_FILE)
    if wanted is None:
        return None
    data = files.read_bytes(files.join(url, RECORDED_FILE))
    if hashlib.sha256(data).hexdigest() != wanted:
        raise PolicyError(f"{RECORDED_FILE} in {url} was altered. Copy the bundle again, or export it again.")
    try:
        tensors = load(data)
        states = tensors.get("proprioception", [None] * len(tensors["images"]))
        return Recorded(
            observations=tuple(
                Observation(image=image, proprioception=state)
                for image, state in zip(tensors["images"], states, strict=True)
            ),
            instructions=tuple(json.loads(tensors["instructions"].tobytes())),
            actions=tensors["actions"],
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise PolicyError(f"{RECORDED_FILE} in {url} cannot be read: {error}. Export the bundle again.") from error


def replay(policy: Policy, recorded: Recorded) -> float:
    """Share of the recorded numbers that the policy now answers otherwise: by more than NEAR of their range.

    PolicyError when the answers have another shape, or when more than MAY_DIFFER of them are others.
    """
    answers = _answers(policy, recorded.observations, recorded.instructions)
    if answers.shape != recorded.actions.shape:
        raise PolicyError(
            f"the bundle recorded actions of shape {recorded.actions.shape}, the policy answers {answers.shape}. "
            "Its recording belongs to another policy; export it again."
        )
    span = np.where(policy.high > policy.low, policy.high - policy.low, 1.0)
    # Written so that NaN counts as different.
    is_near = np.abs(answers - recorded.actions) <= NEAR * span
    share = float(1 - is_near.mean())
    if share > MAY_DIFFER:
        raise PolicyError(
            f"replaying {len(answers)} recorded observations, {share:.0%} of the actions differ from those at export "
            f"(at most {MAY_DIFFER:.0%} may). Device, library versions or preprocessing differ from where the policy "
            "was exported: serve it in the image it was made with, or evaluate it here and export it again."
        )
    return share


def _answers(
    policy: Policy, observations: Sequence[Observation], instructions: Sequence[str]
) -> Float32[np.ndarray, "n k a"]:
    fresh = Policy(policy.model, digest=policy.digest, device=str(policy.device), seed=0)
    chunks = [
        fresh.propose([observation], [instruction])[0]
        for observation, instruction in zip(observations, instructions, strict=True)
    ]
    return np.stack(chunks).astype(np.float32)
