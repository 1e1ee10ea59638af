"""A work folder with one whole run, and its registry: a real MLflow store in a file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lapa.config.run import TrackingConfig
from lapa.promotion.bundles import export, find_policy, register
from lapa.promotion.config import PromotionConfig, load_gates
from lapa.tracking.records import Records
from lapa.tracking.registry import POLICY_MODEL, ModelVersion, Registry
from tests.promotion.policies import make_run, register_ancestors
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

QUICK = """
gates:
  - kind: files
  - {kind: success-rate, at_least: 0.5, min_episodes: 50}
  - {kind: not-below-production, margin: 0.1}
  - kind: codebook
  - kind: probe
  - kind: provenance
  - kind: licence
"""
"""The shipped gates without those that start a process."""


@pytest.fixture
def registry(work: Path) -> Registry:  # noqa: F811
    return Registry.open(TrackingConfig(), store=str(work), wait_seconds=5)


@pytest.fixture
def records(work: Path) -> Records:  # noqa: F811
    return Records.open(TrackingConfig(), store=str(work))


@pytest.fixture
def gates(tmp_path: Path) -> PromotionConfig:
    file = tmp_path / "gates.yaml"
    file.write_text(QUICK)
    return load_gates(str(file))


Registered = Callable[..., ModelVersion]


@pytest.fixture
def registered(registry: Registry, records: Records, work: Path) -> Registered:  # noqa: F811
    """`registered(seed=1, successes=50)`: a policy of the shared run, exported and registered as the candidate."""

    def make(*, seed: int = 0, successes: int | None = 54, licence: str = "CC0-1.0") -> ModelVersion:
        made = make_run(work, seed=seed, successes=successes, licence=licence)
        register_ancestors(registry, made)
        mlflow_run = records.keep("finetune", tags={}, texts={"run.yaml": "name: toy"})
        found = find_policy(made.finetune)
        assert found.result is not None
        found.result.tracking["run_id"] = mlflow_run.run_id
        exported = export(found, str(work / "bundles" / str(seed)))
        return register(registry, records, found, exported, name=POLICY_MODEL).version

    return make
