"""Strong augmentation for the judge: drawings are rotated, moved and degraded.

The judge has to read held-out pairs of name and style, and pictures drawn by the decoder, which are
softer than real ones. Therefore its training pictures vary much more than those of the world.
Letters: B pictures, S pixels a side.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOVED, SOFTENED, ERASED = 0.8, 0.5, 0.3  # shares of the pictures
TURN = math.radians(12)  # largest rotation in both directions
SMALLEST = 0.75  # smallest scale
SHIFT = 0.06  # beyond the space that the smaller drawing leaves, as a share of half the side
COLOUR = 0.12  # largest change of contrast and brightness; the tint changes by half of it
NOISE = 0.08  # standard deviation; pixels have a range of 2
PATCH = (0.12, 0.4)  # range of the sides of an erased rectangle, as shares of the picture's side


def moved(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 4, S, S) premultiplied → the same shape. Most drawings are rotated, smaller and moved."""
    n = len(drawn)
    still = torch.rand(n, generator=generator) >= MOVED
    turn = TURN * _between(-1, 1, (n,), generator).masked_fill(still, 0)
    scale = _between(SMALLEST, 1, (n,), generator).masked_fill(still, 1)
    shift = (1 - scale + SHIFT)[:, None] * _between(-1, 1, (n, 2), generator)
    shift = shift.masked_fill(still[:, None], 0)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    turned = torch.stack((cos, -sin, sin, cos), 1).view(n, 2, 2)  # from new coordinates to old ones
    matrix = torch.cat((turned, -turned @ shift[:, :, None]), 2)
    grid = F.affine_grid(matrix, list(drawn.shape), align_corners=False)
    return F.grid_sample(drawn, grid, padding_mode="zeros", align_corners=False)


def worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, S, S) in [-1, 1] → degraded pictures.

    All have other colours. Half of them are also soft and noisy. In some, a rectangle is erased.
    """
    n = len(images)
    amount = torch.rand(n, 1, 1, 1, generator=generator)
    amount = amount * (torch.rand(n, 1, 1, 1, generator=generator) < SOFTENED)
    low = F.avg_pool2d(images, 2)  # as sharp as 32 px can be
    soft = F.interpolate(low, scale_factor=2, mode="bilinear")
    noise = NOISE * torch.randn(images.shape, generator=generator)
    contrast = 1 + COLOUR * _between(-1, 1, (n, 1, 1, 1), generator)
    brightness = COLOUR * _between(-1, 1, (n, 1, 1, 1), generator)
    tint = COLOUR / 2 * _between(-1, 1, (n, 3, 1, 1), generator)
    softened = torch.lerp(images, soft, amount) + amount * noise
    return erased(softened * contrast + brightness + tint, generator)


def erased(images: Tensor, generator: torch.Generator) -> Tensor:
    """Covers a rectangle of some pictures with a random colour.

    This is random erasing (Zhong et al. 2017).
    """
    n, side = len(images), images.shape[-1]
    size = side * _between(*PATCH, (n, 2), generator)
    size = size * (torch.rand(n, 1, generator=generator) < ERASED)
    start = (side - size) * torch.rand(n, 2, generator=generator)
    place = torch.arange(side) + 0.5
    within = (place >= start[..., None]) & (place < (start + size)[..., None])  # (B, 2, S)
    patch = within[:, :1, :, None] & within[:, 1:, None, :]  # (B, 1, S, S)
    return torch.where(patch, _between(-1, 1, (n, 3, 1, 1), generator), images)


def _between(low: float, high: float, shape: tuple, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
