"""Classifier-free guidance (Ho & Salimans 2021): conditions dropped in training, then stressed."""

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, …), t (B,)) → the network's answer


def drop_mask(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """(n,) bool: the samples whose condition is dropped, each by its own draw."""
    return torch.rand(n, generator=generator) < rate


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """u + s (c - u): s = 1 is conditional, s = 0 unconditional. (Ho & Salimans' w is s - 1.)"""
    return unconditional + scale * (conditional - unconditional)


def guided(
    conditional: Denoiser, unconditional: Denoiser, scale: float, channels: int, above: int = 0
) -> Denoiser:
    """A denoiser that guides the prediction, its first `channels`; learned variances stay the
    conditional ones (guided fractions would leave their range).

    Below timestep `above` nothing is guided (Kynkäänniemi et al. 2024): what is drawn is decided
    by then, a guided error of it would stay, and one answer takes half the time of two. All t of a
    batch are one there, as samplers have them.
    """
    if scale == 1:
        return conditional

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if above and t[0] < above:
            return conditional(x_t, t)
        with_condition, without = conditional(x_t, t), unconditional(x_t, t)
        prediction = guide(with_condition[:, :channels], without[:, :channels], scale)
        return torch.cat((prediction, with_condition[:, channels:]), dim=1)

    return denoise
