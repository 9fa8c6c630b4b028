"""What the low pictures suffer while the upsamplers train; at sampling time, nothing.

Paper, appendix C: Gaussian blur for the first upsampler, the more diverse BSR degradation (Zhang
et al. 2021; Rombach et al. 2022) for the second. Which pictures suffer, and how badly, is drawn for
each picture; order and sizes of resizing for the batch. (B, 3, S, S) → same.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 3
SIGMA = 0.6  # appendix C
QUALITY = (30, 95)  # range of JPEG qualities

# The luminance table of the JPEG standard, annex K; here for all three channels.
JPEG_TABLE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
]).float()  # fmt: skip


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur picture b with a KERNEL-wide Gaussian of deviation sigma (B,), in pixels."""
    offset = torch.arange(KERNEL) - KERNEL // 2
    weights = torch.exp(-(offset**2) / (2 * sigma[:, None] ** 2))
    weights = weights / weights.sum(1, keepdim=True)
    kernel = (weights[:, :, None] * weights[:, None, :]).repeat_interleave(3, 0)[:, None]
    flat = F.pad(images, [KERNEL // 2] * 4, mode="replicate").flatten(0, 1)[None]
    return F.conv2d(flat, kernel, groups=len(kernel)).view_as(images)


def blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """The first upsampler's degradation: half of the pictures blurred (kernel 3, sigma 0.6)."""
    keep = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(keep, images, gaussian_blur(images, torch.full((len(images),), SIGMA)))


def bsr(images: Tensor, generator: torch.Generator) -> Tensor:
    """The second upsampler's: blur, loss of resolution, noise and JPEG, in an order drawn for the
    batch; each picture suffers each with probability one half."""
    operations = (_random_blur, _random_resize, _random_noise, _random_jpeg)
    for i in torch.randperm(len(operations), generator=generator).tolist():
        suffers = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(suffers, operations[i](images, generator), images).clamp(-1, 1)
    return images


def _random_blur(images: Tensor, generator: torch.Generator) -> Tensor:
    return gaussian_blur(images, 0.3 + 0.7 * torch.rand(len(images), generator=generator))


def _random_resize(images: Tensor, generator: torch.Generator) -> Tensor:
    """Down to between a half and all of the size, and back up; one draw a batch."""
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
    """What JPEG of a quality (B,) in 1 to 100 leaves: 8x8 cosine transform, rounded and undone.

    The sides must be multiples of 8. No colour transform, no chroma subsampling.
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
