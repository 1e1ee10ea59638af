"""Cosine-normalized attention and gated feed-forward layers of the latent-action transformer.

b batch, n tokens, m context tokens, d width, f head width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

LOGIT_SCALE = 8.0
"""Queries and keys have unit length (times learned scales), so logits need a fixed gain."""


class CosineAttention(nn.Module):
    """Attention whose queries and keys are L2-normalized and scaled per dimension.

    Queries come from normalized tokens, keys and values from the tokens (or context) as they are.
    Null entries are learned keys and values that every query may attend to instead.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, cross: bool = False, null_entries: int = 0) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm = nn.LayerNorm(width, bias=False)
        self.context_norm = nn.LayerNorm(width, bias=False) if cross else None
        self.to_query = nn.Linear(width, inner, bias=False)
        self.to_key_value = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_width))
        self.key_scale = nn.Parameter(torch.ones(head_width))
        self.null_entries = nn.Parameter(torch.randn(2, heads, null_entries, head_width)) if null_entries else None

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        *,
        context: Float[Tensor, "b m d"] | None = None,
        bias: Float[Tensor, "heads n n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        query, key, value = self._project(tokens, context)
        mask = None if bias is None else bias.to(query.dtype)[None]
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=LOGIT_SCALE)
        merged: Tensor = self.to_out(rearrange(out, "b heads n f -> b n (heads f)"))
        return merged

    def _project(self, tokens: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if self.context_norm is not None:
            assert context is not None
            context = self.context_norm(context)
        query = rearrange(self.to_query(self.norm(tokens)), "b n (heads f) -> b heads n f", heads=self.heads)
        pairs = self.to_key_value(tokens if context is None else context)
        key, value = rearrange(pairs, "b m (two heads f) -> two b heads m f", two=2, heads=self.heads)
        if self.null_entries is not None:
            null_key, null_value = repeat(
                self.null_entries.to(key.dtype), "two heads m f -> two b heads m f", b=key.shape[0]
            )
            key, value = torch.cat((null_key, key), dim=-2), torch.cat((null_value, value), dim=-2)
        query = F.normalize(query, dim=-1) * self.query_scale
        key = F.normalize(key, dim=-1) * self.key_scale
        return query.to(value.dtype), key.to(value.dtype), value


class PairAttention(CosineAttention):
    """The same attention over exactly two tokens, the two frames of one grid cell.

    A softmax over two logits is a sigmoid of their difference, so neither softmax nor an attention
    kernel is needed for these very short, very many sequences.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, causal: bool) -> None:
        super().__init__(width, heads, head_width)
        self.causal = causal

    def forward(  # type: ignore[override]
        self, tokens: Float[Tensor, "b 2 d"]
    ) -> Float[Tensor, "b 2 d"]:
        query, key, value = self._project(tokens, None)
        key_change = key[..., 1:, :] - key[..., :1, :]
        share = torch.sigmoid(LOGIT_SCALE * (query * key_change).sum(-1, keepdim=True))  # b heads 2 1
        if self.causal:
            share = torch.cat((torch.zeros_like(share[..., :1, :]), share[..., 1:, :]), dim=-2)
        out = torch.lerp(value[..., :1, :], value[..., 1:, :], share.to(value.dtype))
        merged: Tensor = self.to_out(rearrange(out, "b heads n f -> b n (heads f)"))
        return merged


class FeedForward(nn.Module):
    """GEGLU. Its published inner width (2730) suits no tensor core: the weights are stored with zero
    rows and columns up to a multiple of 16, which compute nothing and receive no gradient."""

    def __init__(self, width: int, multiplier: int) -> None:
        super().__init__()
        self.inner = int(multiplier * (2 / 3) * width)
        stored = -(-self.inner // 16) * 16
        self.norm = nn.LayerNorm(width)
        self.inner_weight = nn.Parameter(self._padded(torch.empty(2, self.inner, width), fan_in=width, rows=stored))
        """Hidden and gate projections."""
        self.out_weight = nn.Parameter(
            self._padded(torch.empty(1, self.inner, width), fan_in=self.inner, rows=stored)[0].T.contiguous()
        )

    @staticmethod
    def _padded(weight: Tensor, *, fan_in: int, rows: int) -> Tensor:
        """torch's default initialization of a linear layer, then rows of zeros."""
        weight.uniform_(-(fan_in**-0.5), fan_in**-0.5)
        return F.pad(weight, (0, 0, 0, rows - weight.shape[1]))

    def forward(self, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        hidden, gate = F.linear(self.norm(tokens), self.inner_weight.flatten(0, 1)).chunk(2, dim=-1)
        return F.linear(F.gelu(gate) * hidden, self.out_weight)
