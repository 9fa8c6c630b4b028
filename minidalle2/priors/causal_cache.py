"""Runs a causal transformer token by token, without computing earlier tokens again.

In a causal transformer, later tokens do not change the keys and values of earlier tokens. So keys
and values are kept. Then each new token costs as much as one token, and not as much as the whole
sequence. The results are the same.
"""

from einops import rearrange
from torch import Tensor

from minidalle2.blocks.attention import SelfAttention, attend
from minidalle2.blocks.transformer import Transformer


class Cache:
    """The keys and values of one layer, for at most `length` tokens."""

    def __init__(self, length: int):
        self.length, self.filled = length, 0
        self.keys = self.values = None  # (B, H, length, d) after the first call of `extend`

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, values of T new tokens (B, H, T, d) → those of all n tokens so far (B, H, n, d)."""
        if self.keys is None:
            rows, heads, _, width = k.shape
            self.keys, self.values = (k.new_empty(rows, heads, self.length, width) for _ in "kv")
        old, self.filled = self.filled, self.filled + k.shape[2]
        self.keys[:, :, old : self.filled], self.values[:, :, old : self.filled] = k, v
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]


def read_on(
    transformer: Transformer, x: Tensor, caches: list[Cache], mask: Tensor | None
) -> Tensor:
    """T new tokens (B, T, D) → (B, T, D), equal to `Transformer.forward` of the whole sequence.

    `mask` (…, T, n) is True where a new token may attend to one of all n tokens so far.
    """
    for block, cache in zip(transformer.blocks, caches, strict=True):
        x = x + _attention(block.attention, block.attention_norm(x), cache, mask)
        x = x + block.mlp(block.mlp_norm(x))
    return transformer.final_norm(x)


def _attention(attention: SelfAttention, x: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
    q, k, v = rearrange(attention.qkv(x), "b t (n h d) -> n b h t d", n=3, h=attention.heads)
    k, v = cache.extend(k, v)
    return attention.out(rearrange(attend(q, k, v, mask), "b h t d -> b t (h d)"))
