"""Exercises 10: crops, blur, and what the network sees."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import call, compare


def check_aligned_crop(aligned_crop: Callable, seed: int = 0) -> None:
    """aligned_crop(high, low, top, left, side) → the same window of both; numbers in low pixels."""
    generator = torch.Generator().manual_seed(seed)
    high = torch.randn(3, 16, 16, generator=generator)
    low, (top, left, side) = F.avg_pool2d(high[None], 2)[0], (1, 3, 4)

    def window(picture: torch.Tensor, k: int, length: int) -> torch.Tensor:
        return picture[:, k * top : k * top + length, k * left : k * left + length]

    compare(
        "aligned_crop", call("aligned_crop", aligned_crop, high, low, top, left, side),
        (window(high, 2, 2 * side), window(low, 1, side)),
        {
            "the high window begins at the low one's numbers; its pixels are half as large":
                (window(high, 1, 2 * side), window(low, 1, side)),
            "the high window shows a quarter of what the low one shows":
                (window(high, 2, side), window(low, 1, side)),
            "top and left are exchanged": tuple(
                p[:, k * left : k * left + n, k * top : k * top + n]
                for p, k, n in ((high, 2, 2 * side), (low, 1, side))
            ),
        },
    )  # fmt: skip


def check_gaussian_kernel(gaussian_kernel: Callable, seed: int = 0) -> None:
    """gaussian_kernel(size, sigma) → (size, size) weights."""
    for size, sigma in ((3, 0.6), (5, 1.0 + 0.1 * seed)):
        offset = torch.arange(size) - size // 2
        line = torch.exp(-(offset**2) / (2 * sigma**2))
        wide = torch.exp(-(offset**2) / sigma**2)
        corner = torch.exp(-(torch.arange(size) ** 2) / (2 * sigma**2))
        compare(
            f"gaussian_kernel({size}, {sigma:g})", gaussian_kernel(size, sigma),
            torch.outer(line, line) / line.sum() ** 2,
            {
                "the weights don't add up to 1: pictures would get brighter or darker":
                    torch.outer(line, line),
                "the exponent lacks its 2": torch.outer(wide, wide) / wide.sum() ** 2,
                "the peak is in the corner; the middle is offset 0":
                    torch.outer(corner, corner) / corner.sum() ** 2,
                "it has one dimension; a picture needs two": line / line.sum(),
            },
        )  # fmt: skip


def check_psnr(psnr: Callable, seed: int = 0) -> None:
    """psnr(picture, truth) → dB, for pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, 8, 8, generator=generator) * 2 - 1
    picture = truth + 0.1 * torch.randn(3, 8, 8, generator=generator)
    mse = (picture - truth).square().mean()
    compare(
        "psnr", torch.as_tensor(call("psnr", psnr, picture, truth)), 10 * (4 / mse).log10(),
        {
            "the peak is taken for 1; from -1 to 1 it is 2, squared": 10 * (1 / mse).log10(),
            "the peak of 2 is not squared": 10 * (2 / mse).log10(),
            "the logarithm is natural; decibels use base 10": 10 * (4 / mse).log(),
            "the error counts as good: turn the fraction round": 10 * (mse / 4).log10(),
        },
    )  # fmt: skip


def check_network_input(network_input: Callable, seed: int = 0) -> None:
    """network_input(x_t, low) → (B, 6, 2S, 2S)."""
    generator = torch.Generator().manual_seed(seed)
    x_t, low = (
        torch.randn(2, 3, 8, 8, generator=generator),
        torch.rand(2, 3, 4, 4, generator=generator),
    )
    low = low * 2 - 1
    large = F.interpolate(low, scale_factor=2, mode="bicubic")
    clamped = large.clamp(-1, 1)
    compare(
        "network_input", call("network_input", network_input, x_t, low),
        torch.cat((x_t, clamped), dim=1),
        {
            "bicubic can overshoot the range of pixels; clamp it": torch.cat((x_t, large), dim=1),
            "the two are added; side by side, as channels, nothing is lost": x_t + clamped,
            "the enlarged picture has steps; the paper interpolates bicubically":
                torch.cat((x_t, F.interpolate(low, scale_factor=2)), dim=1),
            "the noisy picture comes first": torch.cat((clamped, x_t), dim=1),
        },
    )  # fmt: skip
