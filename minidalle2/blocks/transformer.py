"""A pre-norm transformer. Both CLIP towers, the priors and the decoder's text encoder use it.

Letters: B batch, T tokens, D width.
"""

import torch
from torch import Tensor, nn

from minidalle2.blocks.attention import SelfAttention


class Block(nn.Module):
    """(B, T, D) → (B, T, D): attention and an MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """(B, T, D) → (B, T, D), with a final layer norm."""

    def __init__(self, width: int, layers: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        # As in GPT-2, layers that add to the residual stream start small. Deeper stacks have more
        # of these layers, so they start smaller.
        for block in self.blocks:
            for last in (block.attention.out, block.mlp[-1]):
                nn.init.normal_(last.weight, std=(2 * layers * width) ** -0.5)
                nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return self.final_norm(x)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """(T, T): True where a query (row) may attend to a key (column): itself and earlier tokens."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
