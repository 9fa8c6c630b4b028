"""Training pictures of the judge: drawings turned, moved and worn far more than in the world.

The judge has to read drawings by a hand that it has not seen draw this thing, and drawn pictures,
which are softer than real ones. So every picture that it trains on is a little different.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOVED, SOFTENED, ERASED = 0.8, 0.5, 0.3  # shares of the pictures
TURN = math.radians(12)  # at most, either way
SMALLEST = 0.75  # of its own size
SHIFT = 0.06  # beyond the room that the smaller drawing leaves, in half sides
COLOUR = 0.12  # at most, of contrast, brightness and tint
NOISE = 0.08  # standard deviation, of a range of 2
PATCH = (0.12, 0.4)  # sides of what is erased, in sides of the picture


def moved(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 4, S, S) premultiplied → the same, most of them turned, smaller and elsewhere."""
    n = len(drawn)
    still = torch.rand(n, generator=generator) >= MOVED
    turn = TURN * _between(-1, 1, (n,), generator).masked_fill(still, 0)
    scale = _between(SMALLEST, 1, (n,), generator).masked_fill(still, 1)
    shift = (1 - scale + SHIFT)[:, None] * _between(-1, 1, (n, 2), generator)
    shift = shift.masked_fill(still[:, None], 0)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    turned = torch.stack((cos, -sin, sin, cos), 1).view(n, 2, 2)  # new coordinates → old ones
    matrix = torch.cat((turned, -turned @ shift[:, :, None]), 2)
    grid = F.affine_grid(matrix, list(drawn.shape), align_corners=False)
    return F.grid_sample(drawn, grid, padding_mode="zeros", align_corners=False)


def worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, S, S) in [-1, 1] → off-colour; half of them soft and noisy; of some a part erased."""
    n = len(images)
    amount = torch.rand(n, 1, 1, 1, generator=generator)
    amount = amount * (torch.rand(n, 1, 1, 1, generator=generator) < SOFTENED)
    low = F.avg_pool2d(images, 2)  # what 32 px can hold
    soft = F.interpolate(low, scale_factor=2, mode="bilinear")
    noise = NOISE * torch.randn(images.shape, generator=generator)
    contrast = 1 + COLOUR * _between(-1, 1, (n, 1, 1, 1), generator)
    brightness = COLOUR * _between(-1, 1, (n, 1, 1, 1), generator)
    tint = COLOUR / 2 * _between(-1, 1, (n, 3, 1, 1), generator)
    softened = torch.lerp(images, soft, amount) + amount * noise
    return erased(softened * contrast + brightness + tint, generator)


def erased(images: Tensor, generator: torch.Generator) -> Tensor:
    """Some with a rectangle of one random colour (random erasing, Zhong et al. 2017)."""
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
