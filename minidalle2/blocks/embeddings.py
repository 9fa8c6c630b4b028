"""Timesteps, texts and images as vectors."""

import math

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from minidalle2.blocks.transformer import Transformer, causal_mask
from minidalle2.blocks.validation import require


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """(B,) timesteps → (B, D): cosines, then sines, periods of 2π to almost 2π·10,000 steps."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class TimeEmbedding(nn.Module):
    """(B,) timesteps → (B, D)."""

    def __init__(self, width: int):
        super().__init__()
        require(width % 2 == 0, f"a time embedding needs an even width, not {width}")
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoidal(t, self.width))


class TextEncoder(nn.Module):
    """Tokens (B, T) → features (B, T, D).

    It is causal. So padding, which follows the text, cannot change the features of the text.
    """

    def __init__(self, vocab_size: int, context_length: int, width: int, layers: int, heads: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position = nn.Parameter(torch.randn(context_length, width) * 0.02)
        self.transformer = Transformer(width, layers, heads)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.position[: tokens.shape[1]]
        return self.transformer(x, causal_mask(tokens.shape[1], tokens.device))


def patchify(patch_size: int) -> nn.Module:
    """(B, C, H, W) → (B, N, C·P·P): the image as a sequence of square patches, row by row."""
    return Rearrange("b c (h p) (w q) -> b (h w) (c p q)", p=patch_size, q=patch_size)
