"""What the gates look at. Each fact is fetched when a gate first asks for it, and once."""

import json
import subprocess
import sys
from functools import cached_property
from typing import Any, Protocol

from lapa.errors import PolicyError
from lapa.policy.manifest import read_policy_card, verify_bundle
from lapa.process import own_program
from lapa.promotion.lineage import Origin, lineage
from lapa.promotion.verdicts import Approval
from lapa.tracking.evidence import Evaluation, Outcome, evaluations_of, read_outcomes
from lapa.tracking.records import Records
from lapa.tracking.registry import ModelVersion, Registry

Rehearsal = dict[str, Any]


class Evidence(Protocol):
    """About a version that is to be promoted. Anything may raise a LapaError: the gate then fails with its words."""

    version: ModelVersion
    production: ModelVersion | None
    """What the version would replace."""
    who: str
    """Who promotes."""
    approvals: tuple[Approval, ...]

    @property
    def digest(self) -> str:
        """Of the bundle's files as they are, every one read."""

    @property
    def card(self) -> dict[str, Any]:
        """The bundle's `policy.json`."""

    @property
    def origin(self) -> Origin: ...

    def outcomes(self, evaluation: Evaluation) -> tuple[Outcome, ...]:
        """Every episode of an evaluation."""

    def rehearsal(self, python: str | None, calls: int, timeout_seconds: float) -> Rehearsal:
        """What `lapa.policy.rehearsal` measured in a fresh process of that interpreter."""


class RegistryEvidence:
    """From the registry, the object store, and a process that loads the bundle."""

    def __init__(
        self,
        registry: Registry,
        records: Records,
        version: ModelVersion,
        production: ModelVersion | None,
        *,
        who: str,
        approvals: tuple[Approval, ...] = (),
    ) -> None:
        self._registry, self._records = registry, records
        self._rehearsals: dict[tuple[str, int], Rehearsal] = {}
        self.version, self.production, self.who, self.approvals = version, production, who, approvals

    @cached_property
    def digest(self) -> str:
        return verify_bundle(self.version.url)

    @cached_property
    def card(self) -> dict[str, Any]:
        return read_policy_card(self.version.url)

    @cached_property
    def origin(self) -> Origin:
        return lineage(self._registry, self.version)

    def outcomes(self, evaluation: Evaluation) -> tuple[Outcome, ...]:
        return read_outcomes(evaluation, self._records)

    def rehearsal(self, python: str | None, calls: int, timeout_seconds: float) -> Rehearsal:
        asked = (python or sys.executable, calls)
        if asked not in self._rehearsals:
            self._rehearsals[asked] = _rehearse(self.version.url, *asked, timeout_seconds)
        return self._rehearsals[asked]


def _rehearse(url: str, python: str, calls: int, timeout_seconds: float) -> Rehearsal:
    command = own_program("lapa", "rehearse", "-", url, str(calls), python=python)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise PolicyError(
            f"it did not load and act within {timeout_seconds:.0f} s. Try `{' '.join(command)}`."
        ) from error
    except OSError as error:
        raise PolicyError(f"{python} cannot be started: {error.strerror}. Set `python` of the gate.") from error
    if done.returncode != 0:
        words = [line for line in done.stderr.strip().splitlines() if line]
        last = words[-1] if words else f"exit code {done.returncode}"
        raise PolicyError(f"a fresh process of {python} cannot use it: {last}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def find_evaluation(version: ModelVersion, benchmark: str | None) -> Evaluation | None:
    """The one of a benchmark, or the newest."""
    found = evaluations_of(version)
    return next((evaluation for evaluation in found if benchmark in (None, evaluation.benchmark)), None)
