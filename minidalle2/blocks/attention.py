"""Multi-head attention, written out: softmax(QKᵀ/√d)V. Transformers and U-Nets use it.

Letters: B batch, T queries, S keys, D width, H heads.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.validation import require


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q (B, H, T, d), k and v (B, H, S, d) → (B, H, T, d).

    `mask` is True where a query may attend to a key. The formula is written out because on CPUs
    the backward pass of torch's fused attention is slower.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, T, S)
    if mask is not None:
        # Adding a mask costs nothing in the backward pass. Filling the scores would.
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


class SelfAttention(nn.Module):
    """(B, T, D) → (B, T, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        require(
            heads >= 1 and width % heads == 0,
            f"{heads} attention heads cannot share a width of {width}; use a divisor of {width}",
        )
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        return self.out(rearrange(attend(q, k, v, mask), "b h t d -> b t (h d)"))
