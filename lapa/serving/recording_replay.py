"""What another policy would have answered to what robots saw.

`python -m lapa replay - '{"recording": …, "bundle": …}'`.
n observations, k timesteps of both chunks, a action dimensions.
"""

import heapq
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lapa import files
from lapa.config.run import RunConfig
from lapa.config.serving import ReplayConfig
from lapa.config.vla import FlowHead
from lapa.errors import DataError, PolicyError
from lapa.policy.bundle import load_bundle
from lapa.policy.manifest import MANIFEST_FILE, bundle_digest, read_manifest, read_policy_card
from lapa.policy.policy import Policy
from lapa.policy.recorded import NEAR, read_recorded
from lapa.serving.recording_format import Sample, Seen, read_samples, require_observations
from lapa.types.episodes import Observation

BATCH = 16
WORST = 5
"""Observations that are named."""


def main(run: RunConfig | None, arguments: Sequence[str] = ()) -> None:
    """Print the comparison as JSON. Raises PolicyError, DataError."""
    config = ReplayConfig.model_validate_json(arguments[0])
    require_observations(config.recording)
    policy = load_bundle(config.bundle, device=config.device)
    if not policy.digest.startswith(config.expected_digest):
        raise PolicyError(
            f"{config.bundle} has digest {policy.digest[:12]}…, {config.expected_digest[:12]}… was registered: "
            "somebody replaced the bundle. Name the bundle itself to replay it all the same."
        )
    samples = _of_bundle(config.recording) if _is_bundle(config.recording) else read_samples(config.recording)
    sys.stdout.write(json.dumps(compare(policy, samples, tolerance=config.tolerance, limit=config.limit)) + "\n")


def compare(
    policy: Policy, samples: Iterator[Sample], *, tolerance: float = NEAR, limit: int | None = None
) -> dict[str, Any]:
    """How far the policy's answers are from those that were sent, as plain data; both inside the recorded range.

    PolicyError when the recording is of actions with other names, or lacks what the policy looks at.
    """
    span = np.where(policy.high > policy.low, policy.high - policy.low, 1.0)
    gaps: list[Float[np.ndarray, "k a"]] = []
    worst: list[tuple[float, int, dict[str, Any]]] = []
    versions: dict[str, dict[str, str]] = {}
    episodes = set()
    shared = policy.horizon
    for sample, rows in _batches(policy, samples, limit):
        versions[sample.model["digest"]] = dict(sample.model)
        answers = policy.act([row.observation for row in rows], [row.instruction for row in rows])
        for row, answer in zip(rows, answers, strict=True):
            shared = min(shared, len(row.actions))  # several versions may have been recorded
            gap = answer.actions[:shared] - row.actions[:shared]
            episodes.add(row.episode or row.request_id)
            heapq.heappush(worst, _worst_of(policy, row, answer.actions, gap, span, number=len(gaps)))
            if len(worst) > WORST:
                heapq.heappop(worst)
            gaps.append(np.abs(gap))
    if not gaps:
        raise DataError("the recording holds no observation; record some with `lapactl serve --record`.")
    stacked = np.stack([gap[:shared] for gap in gaps])  # n k a
    beyond = stacked > tolerance * span
    return {
        "digest": policy.digest,
        "recorded": list(versions.values()),
        "observations": len(gaps),
        "episodes": len(episodes),
        "timesteps_compared": shared,
        "horizon": policy.horizon,
        "tolerance": tolerance,
        "is_sampling": isinstance(policy.spec.head, FlowHead),
        "share_beyond": float(beyond.mean()),
        "observations_beyond": float(beyond.any(axis=(1, 2)).mean()),
        "dimensions": _dimensions(policy, stacked, beyond, span),
        "worst": [found for _, _, found in sorted(worst, key=lambda item: item[:2], reverse=True)],
    }


def _dimensions(
    policy: Policy, gaps: Float[np.ndarray, "n k a"], beyond: np.ndarray, span: np.ndarray
) -> list[dict[str, Any]]:
    return [
        {
            "dimension": name,
            "mean": float(gaps[..., i].mean()),
            "max": float(gaps[..., i].max()),
            "mean_of_range": float(gaps[..., i].mean() / span[i]),
            "max_of_range": float(gaps[..., i].max() / span[i]),
            "share_beyond": float(beyond[..., i].mean()),
        }
        for i, name in enumerate(policy.space.names)
    ]


def _worst_of(
    policy: Policy, row: Seen, answer: np.ndarray, gap: np.ndarray, span: np.ndarray, *, number: int
) -> tuple[float, int, dict[str, Any]]:
    """How bad, as a share of the range; a number that no other has; what is told."""
    timestep, i = (int(part) for part in np.unravel_index(np.argmax(np.abs(gap) / span), gap.shape))
    found: dict[str, Any] = {
        "episode": row.episode,
        "request_id": row.request_id,
        "time": row.time,
        "instruction": row.instruction,
        "timestep": timestep,
        "dimension": policy.space.names[i],
        "recorded": float(row.actions[timestep, i]),
        "now": float(answer[timestep, i]),
        "of_range": float(abs(gap[timestep, i]) / span[i]),
    }
    return found["of_range"], -number, found


def _batches(policy: Policy, samples: Iterator[Sample], limit: int | None) -> Iterator[tuple[Sample, list[Seen]]]:
    """Rows of one sample each, as many as are answered at a time."""
    left = limit if limit is not None else sys.maxsize
    for sample in samples:
        if left <= 0:
            return
        if sample.action_names != policy.space.names:
            raise PolicyError(
                f"{sample.name} recorded actions ({', '.join(sample.action_names)}); the policy answers with "
                f"({', '.join(policy.space.names)}). They are of different robots: replay a policy of the same actions."
            )
        rows: list[Seen] = []
        for row in sample.rows():
            if left <= 0:
                break
            rows.append(row)
            left -= 1
            if len(rows) == BATCH:
                yield sample, rows
                rows = []
        if rows:
            yield sample, rows


def _is_bundle(url: str) -> bool:
    return files.exists(files.join(url, MANIFEST_FILE))


def _of_bundle(url: str) -> Iterator[Sample]:
    """What a bundle carries since its export."""
    recorded = read_recorded(url)
    assert recorded is not None, "require_observations has looked"
    dimensions = read_policy_card(url)["action_space"]["dimensions"]
    names = tuple(dimension["name"] for dimension in dimensions)
    # Recorded as the model gave them; a server would have brought them into range.
    low, high = (np.array([dimension[end] for dimension in dimensions]) for end in ("min", "max"))

    def rows() -> Iterator[Seen]:
        told = zip(recorded.observations, recorded.instructions, recorded.actions, strict=True)
        for number, (observation, instruction, actions) in enumerate(told):
            yield _seen(observation, instruction, np.clip(actions, low, high).astype(np.float32), number)

    yield Sample(
        name=url,
        model={"name": files.name_of(url), "version": "", "digest": bundle_digest(read_manifest(url))},
        action_names=names,
        rows=rows,
    )


def _seen(observation: Observation, instruction: str, actions: np.ndarray, number: int) -> Seen:
    return Seen(
        episode="",
        protocol="export",
        request_id=str(number),
        time=0.0,
        observation=observation,
        instruction=instruction,
        actions=actions,
        clamped=0,
    )
