"""Tokens of small vocabularies of their own, apart from the text vocabulary of any backbone.

Text ids mean something to a tokenizer and to generation (end of sequence, padding); the published code
decoded codes as text ids, and code 2 ended every sequence. Ids here mean nothing outside this table.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class NewEmbedding(nn.Embedding):
    """Rows at the scale of the backbone's own, drawn at construction like every layer's own weights."""

    def __init__(self, rows: int, width: int, std: float) -> None:
        self._std = std
        super().__init__(rows, width)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self._std)


class TokenTable(nn.Module):
    """Several named vocabularies, one id space: b batch, m tokens, d width."""

    def __init__(self, vocabularies: Mapping[str, int], width: int, std: float) -> None:
        super().__init__()
        self.rows = dict(vocabularies)
        self.tables = nn.ModuleDict({name: NewEmbedding(rows, width, std) for name, rows in self.rows.items()})

    def ids(self, vocabulary: str, index: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """Ids of one vocabulary's rows."""
        return index + self._first(vocabulary)

    def forward(self, ids: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        embedded: Tensor | None = None
        for name, table in self.tables.items():
            index = ids - self._first(name)
            inside = (index >= 0) & (index < self.rows[name])
            rows = table(torch.where(inside, index, torch.zeros_like(index))) * inside.unsqueeze(-1)
            embedded = rows if embedded is None else embedded + rows
        assert embedded is not None, "a model has a latent or an action vocabulary"
        return embedded

    def _first(self, vocabulary: str) -> int:
        first = 0
        for name, rows in self.rows.items():
            if name == vocabulary:
                return first
            first += rows
        raise KeyError(vocabulary)
