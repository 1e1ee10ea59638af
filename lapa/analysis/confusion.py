"""Which codes occur for which instructions. r rows, c columns, m frame pairs, e episodes."""

from typing import Literal

import numpy as np
from jaxtyping import Int64

from lapa.analysis.atlas import frequent_codes
from lapa.analysis.drawing import share_table
from lapa.analysis.exhibit_results import Confusion
from lapa.analysis.exhibits import Exhibit, code_name
from lapa.analysis.information import contingency, dense, entropy, information, joint_labels
from lapa.analysis.latents import Encoded

Grouping = Literal["instruction", "verb"]

MOST_ROWS = 12
MOST_COLUMNS = 10
DRAWS = 100


def confusions(encoded: Encoded, role: str) -> list[tuple[Confusion, Exhibit]]:
    """By instruction, and where there are many instructions, also by verb. None where they do not differ."""
    rows = np.unique(encoded.pairs.row)
    texts = [" ".join(text.split()) or "(none)" for text in encoded.instructions(rows)]
    verbs = [text.split()[0].lower().strip(".,") for text in texts]
    groupings: list[tuple[Grouping, list[str]]] = [("instruction", texts)]
    if len(set(texts)) > MOST_ROWS:
        groupings.append(("verb", verbs))
    return [_confusion(encoded, role, rows, kind, names) for kind, names in groupings if len(set(names)) > 1]


def _confusion(
    encoded: Encoded, role: str, rows: Int64[np.ndarray, " e"], rows_are: Grouping, texts: list[str]
) -> tuple[Confusion, Exhibit]:
    """`texts` name the group of each of the episodes `rows`."""
    names = sorted(set(texts))
    of_episode = np.array([names.index(text) for text in texts])
    episode = np.searchsorted(rows, encoded.pairs.row)
    table, shown, columns = _table(of_episode[episode], encoded.pairs.codes, names)
    share, chance = _information(of_episode, episode, joint_labels(encoded.pairs.codes))
    found = Confusion(
        dataset=encoded.source,
        rows_are=rows_are,
        rows=tuple(shown),
        columns=tuple(columns),
        counts=tuple(tuple(row) for row in table.tolist()),
        normalized_information=share,
        by_chance=chance,
    )
    return found, _exhibit(found, table, role)


def _exhibit(found: Confusion, table: np.ndarray, role: str) -> Exhibit:
    counts = table.sum(axis=1)
    verdict = "more than chance" if found.normalized_information > found.by_chance else "no more than chance"
    return Exhibit(
        kind="instructions",
        name=f"{found.rows_are}s-{role}",
        title=f"Codes by {found.rows_are} ({role})",
        caption=(
            f"Each row is one {found.rows_are} (frame pairs in brackets): how often each latent action occurs in it; "
            f"darker is more. Codes tell {found.normalized_information:.0%} of the {found.rows_are} "
            f"({verdict}, {found.by_chance:.0%}). Rows alike mean motions that every task shares; a code that belongs "
            "to one row may name the scene instead of the motion."
        ),
        alt=f"Share of {len(found.columns)} codes in {len(found.rows)} rows.",
        still=share_table(
            table / np.maximum(counts, 1)[:, None], rows=found.rows, columns=found.columns, counts=counts.tolist()
        ),
    )


def _table(
    labels: Int64[np.ndarray, " m"], codes: Int64[np.ndarray, "m k"], names: list[str]
) -> tuple[Int64[np.ndarray, "r c"], list[str], list[str]]:
    """The most frequent rows and columns; what is left goes to a last column `other`."""
    frequent, _ = frequent_codes(codes, MOST_COLUMNS)
    place = {tuple(code): i for i, code in enumerate(frequent.tolist())}
    column = np.array([place.get(tuple(code), len(place)) for code in codes.tolist()])
    table = contingency(labels, column)
    order = np.argsort(-table.sum(axis=1), kind="stable")[:MOST_ROWS]
    columns = [code_name(code) for code in frequent] + (["other"] if table.shape[1] > len(frequent) else [])
    return table[order], [names[i] for i in order], columns


def _information(
    of_episode: Int64[np.ndarray, " e"], episode: Int64[np.ndarray, " m"], codes: Int64[np.ndarray, " m"]
) -> tuple[float, float]:
    """Share of the rows' entropy that codes tell beyond chance, and the 95th percentile of what chance tells."""
    rng = np.random.default_rng(0)
    labels = dense(of_episode[episode])
    by_chance = np.array([information(rng.permutation(of_episode)[episode], codes) for _ in range(DRAWS)])
    room = entropy(labels) - by_chance.mean()
    if room < 1e-9:
        return 0.0, 0.0
    share = (information(labels, codes) - by_chance.mean()) / room
    chance = (np.quantile(by_chance, 0.95) - by_chance.mean()) / room
    return float(np.clip(share, 0, 1)), float(np.clip(chance, 0, 1))
