"""A pre-norm transformer: both towers of CLIP, the prior and the decoder's text encoder use it."""

import torch
from torch import Tensor, nn

from minidalle2.blocks.attention import SelfAttention


class Block(nn.Module):
    """(B, T, D) → (B, T, D)."""

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
    """(B, T, D) → (B, T, D), layer-normed at the end."""

    def __init__(self, width: int, layers: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        # GPT-2: what is added to the residual stream starts small, the more so in a deep stack.
        for block in self.blocks:
            for last in (block.attention.out, block.mlp[-1]):
                nn.init.normal_(last.weight, std=(2 * layers * width) ** -0.5)
                nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return self.final_norm(x)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """(T, T): True where query row may look at key column, itself included."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
