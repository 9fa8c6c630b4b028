"""Backgrounds: which colours a drawing is visible on, and how a drawing is composed with them.

Letters: B pictures, N drawings, K backgrounds, S pixels a side.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.worlds.emoji.drawings import pictures
from minidalle2.worlds.emoji.words import BACKGROUNDS, WHITE

RGB = torch.tensor([rgb for _, rgb in BACKGROUNDS.values()]) / 255  # (K, 3)
WHITE_SHARE = 0.5  # share of the pictures with a white background
CONTRAST = 0.15  # smallest mean difference of ink and background, as a share of the range


def compose(drawn: Tensor, background: Tensor) -> Tensor:
    """Drawings (B, 4, S, S) and backgrounds (B,) → pictures (B, 3, S, S) in [-1, 1].

    Drawings are premultiplied RGBA from 0 to 255. Backgrounds are indices into BACKGROUNDS.
    """
    drawn = drawn / 127.5
    rgb = RGB[background][:, :, None, None]
    return drawn[:, :3] + (2 - drawn[:, 3:]) * rgb - 1


def sample_backgrounds(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of `drawings()` (B,) → random backgrounds (B,).

    Half of them are white. The others are colours on which the drawing is visible.
    """
    other = rank_backgrounds(rows, generator)[:, 0]
    white = torch.rand(len(rows), generator=generator) < WHITE_SHARE
    return torch.where(white, WHITE, other)


def rank_backgrounds(rows: Tensor, generator: torch.Generator) -> Tensor:
    """→ (B, K): all backgrounds in random order. White is last.

    Colours on which the drawing is visible come first.
    """
    shows = contrast()[rows] >= CONTRAST
    order = torch.rand(shows.shape, generator=generator) + shows
    order[:, WHITE] = -1
    return order.argsort(1, descending=True)


@cache
def contrast() -> Tensor:
    """(N, K): the mean difference between the ink of a drawing and each background."""
    drawn = F.avg_pool2d(pictures(32).float() / 255, 2)  # (N, 4, 16, 16)
    alpha = drawn[:, 3:]
    ink = alpha.sum((1, 2, 3)).clamp(min=1e-6)
    distances = [
        (drawn[:, :3] - alpha * rgb[:, None, None]).abs().mean(1).sum((1, 2)) / ink for rgb in RGB
    ]
    return torch.stack(distances, 1)
