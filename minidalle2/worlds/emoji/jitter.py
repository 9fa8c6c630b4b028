"""Light augmentation that keeps every caption true: drawings become smaller and move.

Drawings are not mirrored, because captions of arrows, clocks and letters would become wrong.
Nothing is cut off: a drawing fills at most 96 % of its picture and moves only within the free
space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SPAN = 0.96  # largest side of a drawing, as a share of the picture (data/emoji/vectors.py)
SMALLEST = 0.85  # smallest scale


def jitter(drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(B, 4, S, S) float, S = size or 2 · size → (B, 4, size, size), scaled and shifted.

    If S is 2 · size, the result is averaged over 2 x 2 pixels, which keeps it sharp.
    """
    n, side = len(drawn), drawn.shape[-1]
    scale = SMALLEST + (1 - SMALLEST) * torch.rand(n, generator=generator)
    free = 1 - SPAN * scale  # on each side, as a share of half the picture
    shift = (torch.rand(n, 2, generator=generator) * 2 - 1) * free[:, None]
    matrix = torch.zeros(n, 2, 3)  # from new coordinates to old ones
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / scale
    matrix[:, :, 2] = -shift / scale[:, None]
    grid = F.affine_grid(matrix, [n, 1, side, side], align_corners=False)
    moved = F.grid_sample(drawn, grid, padding_mode="zeros", align_corners=False)
    return moved if side == size else F.avg_pool2d(moved, side // size)
