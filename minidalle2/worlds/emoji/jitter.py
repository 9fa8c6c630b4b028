"""Light augmentation that keeps every caption true: smaller, and anywhere in the free space.

No flips: arrows, clocks and letters would lie. Nothing is cut off, because a drawing spans at most
96 % of its picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SPAN = 0.96  # of the picture, at most, before (data/emoji/vectors.py)
SMALLEST = 0.85


def jitter(drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(B, 4, S, S) float, S = size or twice that → (B, 4, size, size), scaled and shifted.

    From twice the size, the average of 2 x 2 samples keeps it sharp.
    """
    n, side = len(drawn), drawn.shape[-1]
    scale = SMALLEST + (1 - SMALLEST) * torch.rand(n, generator=generator)
    free = 1 - SPAN * scale  # in half sides of the picture, on each side
    shift = (torch.rand(n, 2, generator=generator) * 2 - 1) * free[:, None]
    matrix = torch.zeros(n, 2, 3)  # from the new picture's coordinates to the old one's
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / scale
    matrix[:, :, 2] = -shift / scale[:, None]
    grid = F.affine_grid(matrix, [n, 1, side, side], align_corners=False)
    moved = F.grid_sample(drawn, grid, padding_mode="zeros", align_corners=False)
    return moved if side == size else F.avg_pool2d(moved, side // size)
