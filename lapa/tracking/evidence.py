"""Evaluations that are attached to a registered policy, where promotion finds them.

An evaluation is a tag of the version: which benchmark, the rate, and where every episode's outcome is kept, with its
digest. Outcomes lie in the evaluate stage's folder and in its MLflow run; either will do, for the digest pins them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from lapa import files
from lapa.errors import TrackingError
from lapa.tracking.delivery import brief
from lapa.tracking.records import Records
from lapa.tracking.registry import ModelVersion, Registry

EVALUATION_TAG = "lapa.evaluation."
METRIC_TAG = "lapa.metric."
OUTCOMES_FILE = "episodes.json"
OUTCOMES_ARTIFACT = f"evaluation/{OUTCOMES_FILE}"


class Evaluation(BaseModel):
    """One benchmark's outcome, as a tag holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    """Names the episodes: the simulator's settings, every seed and instruction. Equal names can be paired."""
    simulator: str
    """Its kind; empty where the outcomes do not say."""
    episodes: int
    successes: int
    url: str
    """Of the outcomes' file."""
    digest: str
    """SHA-256 of the outcomes' file."""
    run_id: str
    """MLflow run that keeps a copy; empty for none."""
    finished: str = ""
    """When, ISO 8601."""
    through: str = ""
    """The server that answered, and told the digest itself; empty where the bundle was loaded and verified."""

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One episode: with the same seed and benchmark, two policies began in the same state."""

    seed: int
    kind: str
    is_success: bool


def evaluation_of(outcomes: bytes, *, url: str, run_id: str, finished: str = "") -> Evaluation:
    """Describe an outcomes file. TrackingError when it holds no episodes."""
    read = json.loads(outcomes)
    rows = read.get("policy", {}).get("outcomes", [])
    if not rows:
        raise TrackingError(f"{url} holds no episodes' outcomes; evaluate the policy again with a simulator.")
    settings = read.get("benchmark", {})
    identity = [[row.get(name) for name in ("seed", "kind", "split", "instruction")] for row in rows]
    return Evaluation(
        benchmark=files.digest(json.dumps([settings, identity], sort_keys=True))[:12],
        simulator=str(settings.get("kind", "")),
        episodes=len(rows),
        successes=sum(row["success"] for row in rows),
        url=url,
        digest=hashlib.sha256(outcomes).hexdigest(),
        run_id=run_id,
        finished=finished,
        through=str(read.get("through", "")),
    )


def evaluation_tags(evaluation: Evaluation) -> dict[str, str]:
    """What attaches an evaluation to a version."""
    return {EVALUATION_TAG + evaluation.benchmark: evaluation.model_dump_json()}


def attach_evaluation(
    registry: Registry, digest: str, *, metrics: Mapping[str, float], evidence: Mapping[str, str]
) -> list[ModelVersion]:
    """Put an evaluation on every registered version that holds the policy; its numbers, where the version has none
    of that name. Gives those versions. TrackingError when the registry refuses or stays away: nothing is lost then,
    the stage goes on from its outcomes when it is started again."""
    found = registry.holding(digest)
    for version in found:
        numbers = {f"{METRIC_TAG}{name.replace('/', '.')}": f"{value:.6g}" for name, value in metrics.items()}
        registry.set_tags(
            version.name,
            version.version,
            {**{key: value for key, value in numbers.items() if key not in version.tags}, **evidence},
        )
    return found


def evaluations_of(version: ModelVersion) -> list[Evaluation]:
    """What was attached, newest first."""
    found = [Evaluation.model_validate_json(v) for k, v in version.tags.items() if k.startswith(EVALUATION_TAG)]
    return sorted(found, key=lambda evaluation: evaluation.finished, reverse=True)


def read_outcomes(evaluation: Evaluation, records: Records) -> tuple[Outcome, ...]:
    """Every episode's outcome, in the benchmark's order. TrackingError when no copy with the tag's digest is left."""
    why = []
    for place, read in (
        (evaluation.url, lambda: files.read_bytes(evaluation.url)),
        (
            f"{OUTCOMES_ARTIFACT} of MLflow run {evaluation.run_id or '-'}",
            lambda: records.read(evaluation.run_id, OUTCOMES_ARTIFACT).encode(),
        ),
    ):
        try:
            data = read()
        except Exception as error:  # a store raises what its transport raises
            why.append(f"{place}: {brief(error)}")
            continue
        if hashlib.sha256(data).hexdigest() == evaluation.digest:
            return _outcomes(json.loads(data))
        why.append(f"{place} was changed since it was attached")
    raise TrackingError(
        f"The outcomes of benchmark {evaluation.benchmark} cannot be read ({'; '.join(why)}). "
        "Bring the store back, or evaluate the policy again."
    )


def _outcomes(read: Mapping[str, Any]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(seed=row["seed"], kind=row["kind"], is_success=bool(row["success"]))
        for row in read["policy"]["outcomes"]
    )
