"""A causal transformer read on, token by token, without reading again what it has read.

In a causal transformer nothing that comes later changes the keys and values of what came before.
Kept, they make each new token cost one token, not the whole sequence; the answers are the same.
"""

from einops import rearrange
from torch import Tensor

from minidalle2.blocks.attention import SelfAttention, attend
from minidalle2.blocks.transformer import Transformer


class Cache:
    """Keys and values of one layer, for up to `length` tokens."""

    def __init__(self, length: int):
        self.length, self.filled = length, 0
        self.keys = self.values = None  # (B, H, length, d) once the first are known

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """New keys and values (B, H, T, d) → all so far, twice (B, H, S, d)."""
        if self.keys is None:
            rows, heads, _, width = k.shape
            self.keys, self.values = (k.new_empty(rows, heads, self.length, width) for _ in "kv")
        old, self.filled = self.filled, self.filled + k.shape[2]
        self.keys[:, :, old : self.filled], self.values[:, :, old : self.filled] = k, v
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]


def read_on(
    transformer: Transformer, x: Tensor, caches: list[Cache], mask: Tensor | None
) -> Tensor:
    """New tokens (B, T, D) → (B, T, D), as `Transformer.forward` of the whole sequence gives at
    their places. `mask` (…, T, S) is True where one of them may look, itself and the old included.
    """
    for block, cache in zip(transformer.blocks, caches, strict=True):
        x = x + _attention(block.attention, block.attention_norm(x), cache, mask)
        x = x + block.mlp(block.mlp_norm(x))
    return transformer.final_norm(x)


def _attention(attention: SelfAttention, x: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
    q, k, v = rearrange(attention.qkv(x), "b t (n h d) -> n b h t d", n=3, h=attention.heads)
    k, v = cache.extend(k, v)
    return attention.out(rearrange(attend(q, k, v, mask), "b h t d -> b t (h d)"))
