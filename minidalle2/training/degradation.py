"""Degrades the low-resolution pictures in the training of the upsamplers, but not in sampling.

(B, 3, S, S) → same shape. Paper, appendix C: Gaussian blur for the first upsampler, and the more
diverse BSR degradation for the second (Zhang et al. 2021; Rombach et al. 2022). Which pictures are
degraded, and how strongly, is drawn for each picture. The order of the operations and the size of
the resizing are drawn for the whole batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 3
SIGMA = 0.6  # appendix C
QUALITY = (30, 95)  # range of JPEG qualities

# The table for luminance of the JPEG standard, annex K. It is used for all three channels here.
JPEG_TABLE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).float()


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blurs each picture with a Gaussian of KERNEL x KERNEL pixels and deviation sigma (B,)."""
    offset = torch.arange(KERNEL) - KERNEL // 2
    weights = torch.exp(-(offset**2) / (2 * sigma[:, None] ** 2))
    weights = weights / weights.sum(1, keepdim=True)
    kernel = (weights[:, :, None] * weights[:, None, :]).repeat_interleave(3, 0)[:, None]
    flat = F.pad(images, [KERNEL // 2] * 4, mode="replicate").flatten(0, 1)[None]
    return F.conv2d(flat, kernel, groups=len(kernel)).view_as(images)


def blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """The degradation for the first upsampler: blurs half of the pictures (kernel 3, sigma 0.6)."""
    keep = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(keep, images, gaussian_blur(images, torch.full((len(images),), SIGMA)))


def bsr(images: Tensor, generator: torch.Generator) -> Tensor:
    """The degradation for the second upsampler: blur, loss of resolution, noise and JPEG.

    The order is drawn for the batch. Each operation is applied to each picture with probability
    1/2.
    """
    operations = (_random_blur, _random_resize, _random_noise, _random_jpeg)
    for i in torch.randperm(len(operations), generator=generator).tolist():
        degraded = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(degraded, operations[i](images, generator), images).clamp(-1, 1)
    return images


def _random_blur(images: Tensor, generator: torch.Generator) -> Tensor:
    return gaussian_blur(images, 0.3 + 0.7 * torch.rand(len(images), generator=generator))


def _random_resize(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shrinks to between half and full size and enlarges again. The size is drawn for the batch."""
    size = images.shape[-1]
    small = int(torch.randint(size // 2, size, (), generator=generator))
    mode = ("bilinear", "bicubic")[int(torch.randint(2, (), generator=generator))]
    low = F.interpolate(images, size=small, mode=mode, antialias=True)
    return F.interpolate(low, size=size, mode=mode)


def _random_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    strength = 0.06 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return images + strength * torch.randn(images.shape, generator=generator)


def _random_jpeg(images: Tensor, generator: torch.Generator) -> Tensor:
    low, high = QUALITY
    return jpeg(images, low + (high - low) * torch.rand(len(images), generator=generator))


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """The pictures after JPEG compression with quality (B,) from 1 to 100.

    Rounds the coefficients of the 8x8 cosine transform and transforms them back. The sides must be
    multiples of 8. Left out: the colour transform and the chroma subsampling of JPEG.
    """
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    table = (JPEG_TABLE * scale[:, None, None]).clamp(min=1)[:, None, None, None]
    n = torch.arange(8)
    basis = torch.cos((2 * n + 1) * n[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)  # (frequency, position), orthonormal
    blocks = (images * 127.5).unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 3, h, w, 8, 8)
    coefficients = (basis @ blocks @ basis.T / table).round() * table
    restored = basis.T @ coefficients @ basis / 127.5
    return restored.permute(0, 1, 2, 4, 3, 5).reshape(images.shape)
