"""Multi-head attention, written out: softmax(QKᵀ/√d)V. Knows nothing of what it attends to.

Letters: B batch, T queries, S keys, D width, H heads.
"""

import torch
from einops import rearrange
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, H, T, d), (B, H, S, d) twice → (B, H, T, d); `mask` is True where a query may look.

    Spelled out rather than fused: on CPUs the backward pass of torch's fused attention is slower.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, T, S)
    if mask is not None:
        # Adding costs nothing in the backward pass, filling does.
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


class SelfAttention(nn.Module):
    """(B, T, D) → (B, T, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads can't share a width of {width}; a divisor of it can")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        return self.out(rearrange(attend(q, k, v, mask), "b h t d -> b t (h d)"))
