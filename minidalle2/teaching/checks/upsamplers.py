"""Checks of exercises 10: crops, blur, and the input of the network."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import call, compare


def check_aligned_crop(aligned_crop: Callable, seed: int = 0) -> None:
    """aligned_crop(high (3, 2S, 2S), low (3, S, S), top, left, side) → the same window of both.

    top, left and side count pixels of the low picture.
    """
    generator = torch.Generator().manual_seed(seed)
    high = torch.randn(3, 16, 16, generator=generator)
    low, (top, left, side) = F.avg_pool2d(high[None], 2)[0], (1, 3, 4)

    def window(picture: torch.Tensor, y: int, x: int, length: int) -> torch.Tensor:
        return picture[:, y : y + length, x : x + length]

    low_window = window(low, top, left, side)
    truth = window(high, 2 * top, 2 * left, 2 * side), low_window
    same_start = window(high, top, left, 2 * side), low_window
    same_side = window(high, 2 * top, 2 * left, side), low_window
    exchanged = window(high, 2 * left, 2 * top, 2 * side), window(low, left, top, side)
    mistakes = {
        "`top` and `left` are not scaled. Pixels of `high` are half as large.": same_start,
        "The window of `high` shows a quarter of the window of `low`.": same_side,
        "`top` and `left` are exchanged.": exchanged,
    }
    answer = call("aligned_crop", aligned_crop, high, low, top, left, side)
    compare("aligned_crop", answer, truth, mistakes)


def check_gaussian_kernel(gaussian_kernel: Callable, seed: int = 0) -> None:
    """gaussian_kernel(size, sigma) → (size, size) weights that add up to 1."""

    def kernel(line: torch.Tensor) -> torch.Tensor:
        return torch.outer(line, line) / line.sum() ** 2

    for size, sigma in ((3, 0.6), (5, 1.0 + 0.1 * seed)):
        offset = torch.arange(size) - size // 2
        line = torch.exp(-(offset**2) / (2 * sigma**2))
        wide = torch.exp(-(offset**2) / sigma**2)
        corner = torch.exp(-(torch.arange(size) ** 2) / (2 * sigma**2))
        mistakes = {
            "The weights do not add up to 1. The brightness would change.": torch.outer(line, line),
            "The factor 2 of the exponent is missing.": kernel(wide),
            "The peak is in the corner. The middle is offset 0.": kernel(corner),
            "The weights have one dimension. A picture needs two.": line / line.sum(),
        }
        answer = gaussian_kernel(size, sigma)
        compare(f"gaussian_kernel({size}, {sigma:g})", answer, kernel(line), mistakes)


def check_psnr(psnr: Callable, seed: int = 0) -> None:
    """psnr(picture, truth) → dB, for pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, 8, 8, generator=generator) * 2 - 1
    picture = truth + 0.1 * torch.randn(3, 8, 8, generator=generator)
    mse = (picture - truth).square().mean()
    mistakes = {
        "The peak is taken for 1. How far is it from -1 to 1?": 10 * (1 / mse).log10(),
        "The peak of 2 is not squared.": 10 * (2 / mse).log10(),
        "The logarithm is natural. Decibels use base 10.": 10 * (4 / mse).log(),
        "The fraction is inverted. A small error must give a large number.": 10 * (mse / 4).log10(),
    }
    answer = torch.as_tensor(call("psnr", psnr, picture, truth))
    compare("psnr", answer, 10 * (4 / mse).log10(), mistakes)


def check_network_input(network_input: Callable, seed: int = 0) -> None:
    """network_input(x_t (B, 3, 2S, 2S), low (B, 3, S, S)) → (B, 6, 2S, 2S)."""
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(2, 3, 8, 8, generator=generator)
    low = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1
    bicubic = F.interpolate(low, scale_factor=2, mode="bicubic")
    clamped = bicubic.clamp(-1, 1)
    with_steps = torch.cat((x_t, F.interpolate(low, scale_factor=2)), dim=1)
    mistakes = {
        "Bicubic interpolation can overshoot [-1, 1]. Clamp it.": torch.cat((x_t, bicubic), dim=1),
        "The pictures are added. Join them as channels, which loses nothing.": x_t + clamped,
        "The enlarged picture has steps. Use bicubic interpolation.": with_steps,
        "The noisy picture must come first.": torch.cat((clamped, x_t), dim=1),
    }
    answer = call("network_input", network_input, x_t, low)
    compare("network_input", answer, torch.cat((x_t, clamped), dim=1), mistakes)
