"""Drawings on backgrounds: which colours a drawing stands out from, and how it is laid on them."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.worlds.emoji.drawings import pictures
from minidalle2.worlds.emoji.words import BACKGROUNDS, WHITE

RGB = torch.tensor([rgb for _, rgb in BACKGROUNDS.values()]) / 255  # (K, 3)
WHITE_SHARE = 0.5  # of the pictures
CONTRAST = 0.15  # least mean difference between ink and background, of 1, per channel


def compose(drawn: Tensor, background: Tensor) -> Tensor:
    """(B, 4, S, S) premultiplied, 0 to 255, and (B,) places in BACKGROUNDS → (B, 3, S, S) in
    [-1, 1]."""
    drawn = drawn / 127.5
    rgb = RGB[background][:, :, None, None]
    return drawn[:, :3] + (2 - drawn[:, 3:]) * rgb - 1


def sample_backgrounds(rows: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) rows of `drawings()` → (B,) backgrounds: half white, half a colour that shows them."""
    other = rank_backgrounds(rows, generator)[:, 0]
    white = torch.rand(len(rows), generator=generator) < WHITE_SHARE
    return torch.where(white, WHITE, other)


def rank_backgrounds(rows: Tensor, generator: torch.Generator) -> Tensor:
    """(B, K): all backgrounds in random order, colours that show the drawing first, white last."""
    shows = contrast()[rows] >= CONTRAST
    order = torch.rand(shows.shape, generator=generator) + shows
    order[:, WHITE] = -1
    return order.argsort(1, descending=True)


@cache
def contrast() -> Tensor:
    """(N, K): how far a drawing's ink lies from each background, on average."""
    drawn = F.avg_pool2d(pictures(32).float() / 255, 2)  # (N, 4, 16, 16)
    alpha = drawn[:, 3:]
    ink = alpha.sum((1, 2, 3)).clamp(min=1e-6)
    distances = [
        (drawn[:, :3] - alpha * rgb[:, None, None]).abs().mean(1).sum((1, 2)) / ink for rgb in RGB
    ]
    return torch.stack(distances, 1)
