"""A registered version in plain data, for people and programs: all there is to know, and how two differ."""

import json
from collections.abc import Mapping
from typing import Any

from lapa.errors import PolicyError
from lapa.policy.manifest import read_policy_card
from lapa.promotion.gates import METRIC_TAG
from lapa.promotion.promote import FORCED_TAG, GATE_TAG, REPORT_TAG, approvals_of
from lapa.tracking.evidence import evaluations_of
from lapa.tracking.ledger import PRODUCTION, Entry, read_ledger
from lapa.tracking.registry import POLICY_MODEL, ModelVersion, Registry


def describe(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """Everything that is on record about one version."""
    ledger = read_ledger(registry, version.name)
    return {
        "model": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "digest": version.digest,
        "url": version.url,
        "run": version.tags.get("lapa.run", ""),
        "run_id": version.run_id,
        "inputs": version.inputs,
        "metrics": metrics_of(version),
        "evaluations": [e.model_dump() | {"success_rate": e.success_rate} for e in evaluations_of(version)],
        "gates": {
            tag.removeprefix(GATE_TAG): said for tag, said in sorted(version.tags.items()) if tag.startswith(GATE_TAG)
        },
        "report_run_id": version.tags.get(REPORT_TAG, ""),
        "approvals": [approval.model_dump() for approval in approvals_of(version)],
        "forced": forced_of(version),
        "promotions": [promotion(entry) for entry in ledger if version.version in _named(entry)],
        "warnings": _warnings(version, ledger),
    }


def metrics_of(version: ModelVersion) -> dict[str, float]:
    """The numbers that a version was registered with."""
    tags = sorted(version.tags.items())
    return {tag.removeprefix(METRIC_TAG): float(value) for tag, value in tags if tag.startswith(METRIC_TAG)}


def forced_of(version: ModelVersion) -> list[dict[str, Any]]:
    """Promotions that overruled gates."""
    return [json.loads(told) for tag, told in sorted(version.tags.items()) if tag.startswith(FORCED_TAG)]


def promotion(entry: Entry) -> dict[str, Any]:
    """A line of the ledger."""
    decision = entry.decision
    return {
        "number": entry.number,
        "kind": decision.kind,
        "version": decision.version,
        "replaces": decision.replaces,
        "who": decision.who,
        "reason": decision.reason,
        "forced": list(decision.forced),
        "approvals": list(decision.approvals),
        "made_ms": entry.created_ms,
    }


def difference(first: ModelVersion, second: ModelVersion) -> list[dict[str, Any]]:
    """What two versions differ in: settings, inputs, metrics, licences, actions. Opens the bundles of policies."""
    one, other = _facts(first), _facts(second)
    return [
        {"what": name, "first": one.get(name), "second": other.get(name)}
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _facts(version: ModelVersion) -> dict[str, Any]:
    facts: dict[str, Any] = {"digest": version.digest}
    facts |= {f"metrics.{name}": value for name, value in metrics_of(version).items()}
    facts |= {f"inputs.{role}": what.get("digest", "")[:12] for role, what in version.inputs.items()}
    if version.name == POLICY_MODEL or "/policy" in version.url:
        try:
            card = read_policy_card(version.url)
        except PolicyError:
            return facts
        for part in ("run", "action_space", "licences", "horizon", "proprioception_dims", "frame_size"):
            facts |= _flat(part, card.get(part))
    return facts


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: item for part, inner in value.items() for key, item in _flat(f"{name}.{part}", inner).items()}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        named = ((item.get("name", number), item) for number, item in enumerate(value))
        return {key: item for part, inner in named for key, item in _flat(f"{name}.{part}", inner).items()}
    return {name: value}


def _named(entry: Entry) -> tuple[int | None, ...]:
    return entry.decision.version, entry.decision.replaces


def _warnings(version: ModelVersion, ledger: list[Entry]) -> list[str]:
    warnings = [
        f"promoted by force: {told['who']} overruled {', '.join(told['gates'])} ({told['reason']})"
        for told in forced_of(version)
    ]
    if PRODUCTION in version.aliases and (not ledger or ledger[-1].decision.version != version.version):
        warnings.append("the alias `production` was set past `lapactl promote`: no gate judged this version for it")
    return warnings
