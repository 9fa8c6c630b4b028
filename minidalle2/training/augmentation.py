"""Data augmentation: small random changes of pictures, so that CLIP does not memorise them.

Captions that name colours or directions stay correct: rotations are small, and nothing is mirrored.
Pictures can also be enlarged. Then their border is cut off, and details of the style become larger.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 0.8  # of the pictures are rotated, resized and shifted
TURN = 0.25  # largest rotation in radians, in both directions
SMALLEST = 0.7  # smallest scale
STRETCH = 0.2  # largest change of the width, and its inverse of the height
SHIFT = 0.05  # largest shift as a share of half a side; more if the picture is enlarged
CONTRAST, BRIGHTNESS = 0.15, 0.05  # largest changes, in both directions
MOST_BLANK = 1 / 3  # largest share of the squares that are blanked, in half of the pictures
PATCHES = 8  # squares along a side


def varied(images: Tensor, generator: torch.Generator, closest: float = 1.0) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1], S a multiple of 8 → changed pictures of the same shape.

    The content is enlarged up to `closest` times.
    """
    n = len(images)
    moves = torch.rand(n, 1, 1, 1, generator=generator) < SHARE
    images = torch.where(moves, _moved(images, generator, closest), images)
    contrast = 1 + CONTRAST * _either_way((n, 1, 1, 1), generator)
    brightness = BRIGHTNESS * _either_way((n, 3, 1, 1), generator)
    return _patched((images * contrast + brightness).clamp(-1, 1), generator)


def _moved(images: Tensor, generator: torch.Generator, closest: float) -> Tensor:
    """Rotates, resizes, stretches and shifts. Pixels outside a picture repeat its border."""
    n = len(images)
    angle = TURN * _either_way((n,), generator)
    scale = 1 / (SMALLEST * (closest / SMALLEST) ** torch.rand(n, generator=generator))
    stretch = 1 + STRETCH * _either_way((n,), generator)
    across, down = scale * stretch, scale / stretch
    matrix = torch.zeros(n, 2, 3)  # from coordinates of the new picture to those of the old one
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos() * across, -angle.sin() * down
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() * across, angle.cos() * down
    room = SHIFT + (1 - scale).clamp(min=0)
    matrix[:, :, 2] = room[:, None] * _either_way((n, 2), generator)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _patched(images: Tensor, generator: torch.Generator) -> Tensor:
    """Covers a part of about half of the pictures with gray squares (DeVries & Taylor 2017)."""
    n = len(images)
    share = MOST_BLANK * torch.rand(n, 1, 1, 1, generator=generator)
    share = share * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    kept = torch.rand(n, 1, PATCHES, PATCHES, generator=generator) >= share
    return images * F.interpolate(kept.float(), scale_factor=images.shape[-1] // PATCHES)


def _either_way(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniformly distributed numbers in [-1, 1]."""
    return torch.rand(shape, generator=generator) * 2 - 1
