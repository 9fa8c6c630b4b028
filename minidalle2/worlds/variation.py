"""The same picture, seen a little differently: what keeps CLIP from learning few pictures by heart.

Captions that name colours or directions stay true: turns are small, and nothing is mirrored.
Seen closer than it is, a picture loses its rim; what it is drawn with shows the better.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 0.8  # of the pictures that are turned, resized and moved
TURN = 0.25  # radians, at most, either way
SMALLEST = 0.7
STRETCH = 0.2  # of the width against the height, at most
SHIFT = 0.05  # of half a side, at most, beyond the room that a closer look has
CONTRAST, BRIGHTNESS = 0.15, 0.05  # at most, either way
MOST_BLANK = 1 / 3
PATCHES = 8  # squares along a side; up to a third of them are blanked in half of the pictures


def varied(images: Tensor, generator: torch.Generator, closest: float = 1.0) -> Tensor:
    """(B, 3, S, S) in [-1, 1], S a multiple of 8 → the same, up to `closest` times as large."""
    n = len(images)
    moves = torch.rand(n, 1, 1, 1, generator=generator) < SHARE
    images = torch.where(moves, _moved(images, generator, closest), images)
    contrast = 1 + CONTRAST * _either_way((n, 1, 1, 1), generator)
    brightness = BRIGHTNESS * _either_way((n, 3, 1, 1), generator)
    return _patched((images * contrast + brightness).clamp(-1, 1), generator)


def _moved(images: Tensor, generator: torch.Generator, closest: float) -> Tensor:
    """Turned, resized, stretched and moved; what comes into view continues the border."""
    n = len(images)
    angle = TURN * _either_way((n,), generator)
    scale = 1 / (SMALLEST * (closest / SMALLEST) ** torch.rand(n, generator=generator))
    stretch = 1 + STRETCH * _either_way((n,), generator)
    across, down = scale * stretch, scale / stretch
    matrix = torch.zeros(n, 2, 3)  # from the new picture's coordinates to the old one's
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos() * across, -angle.sin() * down
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() * across, angle.cos() * down
    room = SHIFT + (1 - scale).clamp(min=0)
    matrix[:, :, 2] = room[:, None] * _either_way((n, 2), generator)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _patched(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gray squares over a part of every second picture or so (DeVries & Taylor 2017)."""
    n = len(images)
    share = MOST_BLANK * torch.rand(n, 1, 1, 1, generator=generator)
    share = share * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    kept = torch.rand(n, 1, PATCHES, PATCHES, generator=generator) >= share
    return images * F.interpolate(kept.float(), scale_factor=images.shape[-1] // PATCHES)


def _either_way(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Even in [-1, 1]."""
    return torch.rand(shape, generator=generator) * 2 - 1
