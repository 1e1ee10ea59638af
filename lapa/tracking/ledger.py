"""Which promotion counts: an append-only ledger of one model's promotions, kept in the registry itself.

MLflow moves an alias without asking where it pointed before, so of two promotions at once both would believe that
they won. What it does guarantee is the numbering of versions: a version's number is the highest one plus one, taken in
a transaction under a primary key, so no two are alike, and a version's tags are written in the same transaction. So
every promotion of NAME is a version of the model `NAME.promotions`, and says which promotion it was decided after
(its *base*). Of several with one base the lowest number counts and the others are void: everybody who reads the ledger
comes to the same answer, whoever was slower. Aliases are then set to what the newest one that counts says; who dies in
between leaves an entry that the next one carries out.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lapa.errors import PromotionConflict
from lapa.tracking.registry import LEDGER_SUFFIX, ModelVersion, Registry

PRODUCTION, PREVIOUS, CANDIDATE = "production", "previous", "candidate"
_ENTRY_TAG = "lapa.promotion"
_APPLIED_TAG = "lapa.promotion.applied"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a promotion is to change, and who answers for it."""

    version: int
    """Becomes `production`."""
    replaces: int | None
    """Was `production`, and becomes `previous`; None for the first one."""
    who: str
    kind: Literal["promotion", "rollback"] = "promotion"
    reason: str = ""
    approvals: tuple[str, ...] = ()
    """Who approved."""
    forced: tuple[str, ...] = ()
    """Gates that failed and were overruled."""
    report_run: str = ""
    """MLflow run that holds the report."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger."""

    number: int
    base: int
    """Number of the entry that counted when this was decided; 0 for none."""
    nonce: str
    decision: Decision
    created_ms: int
    is_applied: bool
    """Whether the aliases were set."""


def read_ledger(registry: Registry, name: str) -> list[Entry]:
    """The promotions of a model that count, oldest first."""
    first: dict[int, Entry] = {}
    for version in registry.entries(name + LEDGER_SUFFIX):
        entry = _entry(version)
        first.setdefault(entry.base, entry)
    return sorted(first.values(), key=lambda entry: entry.number)


def head_of(ledger: list[Entry]) -> int:
    """What a new promotion is decided after."""
    return ledger[-1].number if ledger else 0


def claim(registry: Registry, name: str, source: str, decision: Decision, *, base: int) -> Entry:
    """Enter a decision; from here on it stands. PromotionConflict when another one came first, and nothing changed."""
    nonce = uuid.uuid4().hex
    registry.append(
        name + LEDGER_SUFFIX,
        source,
        tags={_ENTRY_TAG: json.dumps({"base": base, "nonce": nonce, **asdict(decision)}, sort_keys=True)},
        run_id=decision.report_run or None,
        description=_in_words(name, decision),
    )
    winner = next(entry for entry in read_ledger(registry, name) if entry.base == base)
    if winner.nonce != nonce:  # told by the nonce: a request that was sent twice may have two numbers
        other = winner.decision
        raise PromotionConflict(
            f"{other.who} promoted {name}/{other.version} while the gates judged {name}/{decision.version}, so they "
            "judged against a production that is no longer there. Nothing was changed; repeat the command to be judged "
            "against the new one."
        )
    return winner


def apply(registry: Registry, name: str) -> None:
    """Set the aliases to what the newest promotion says, until they are."""
    applied = 0
    # Whoever was slow sets old aliases last, and looks again after that: the last look is always the newest.
    while (newest := read_ledger(registry, name)[-1]).number != applied:
        decision = newest.decision
        if decision.replaces is not None:
            registry.set_alias(name, PREVIOUS, decision.replaces)
        registry.set_alias(name, PRODUCTION, decision.version)
        applied = newest.number
    registry.set_tags(name + LEDGER_SUFFIX, applied, {_APPLIED_TAG: "yes"})


def settle(registry: Registry, name: str) -> list[Entry]:
    """The ledger, after a promotion that was entered but not carried out has been."""
    ledger = read_ledger(registry, name)
    if ledger and not ledger[-1].is_applied:
        apply(registry, name)
        return read_ledger(registry, name)
    return ledger


def _entry(version: ModelVersion) -> Entry:
    stored: Mapping[str, Any] = json.loads(version.tags[_ENTRY_TAG])
    settings = {key: value for key, value in stored.items() if key not in ("base", "nonce")}
    lists = {key: tuple(settings.get(key, ())) for key in ("approvals", "forced")}
    return Entry(
        number=version.version,
        base=stored["base"],
        nonce=stored["nonce"],
        decision=Decision(**{**settings, **lists}),
        created_ms=version.created_ms,
        is_applied=_APPLIED_TAG in version.tags,
    )


def _in_words(name: str, decision: Decision) -> str:
    verb = "back to" if decision.kind == "rollback" else "promoted"
    forced = f", overruling {', '.join(decision.forced)}" if decision.forced else ""
    why = f": {decision.reason}" if decision.reason else ""
    return f"{decision.who} {verb} {name}/{decision.version}{forced}{why}"
