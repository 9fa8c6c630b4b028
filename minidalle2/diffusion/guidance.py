"""Classifier-free guidance (Ho & Salimans 2021).

In training, conditions are dropped at random. In sampling, the conditional prediction is pushed
away from the unconditional one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, …), t (B,)) → the network's output


def drop_mask(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """(n,) bool: True for the samples whose condition is dropped. Samples are independent."""
    return torch.rand(n, generator=generator) < rate


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """u + s (c - u). s = 1 is conditional, s = 0 unconditional. (Ho & Salimans' w is s - 1.)"""
    return unconditional + scale * (conditional - unconditional)


def guided(
    conditional: Denoiser, unconditional: Denoiser, scale: float, channels: int, above: int = 0
) -> Denoiser:
    """A denoiser whose prediction, the first `channels` of its output, is guided by `scale`.

    Learned variances are not guided, because guidance would move them out of their range.

    A scale above 1 is applied only while t ≥ `above` (Kynkäänniemi et al. 2024). At smaller t the
    content is already fixed, guidance would amplify small errors, and skipping the unconditional
    pass halves the cost. A scale below 1 weakens the condition and is applied at every t.
    All samples of a batch must share one t, as they do in the samplers.
    """
    if scale == 1:
        return conditional
    if scale == 0:
        return unconditional

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if scale > 1 and above > 0 and t[0] < above:
            return conditional(x_t, t)
        with_condition, without = conditional(x_t, t), unconditional(x_t, t)
        prediction = guide(with_condition[:, :channels], without[:, :channels], scale)
        return torch.cat((prediction, with_condition[:, channels:]), dim=1)

    return denoise
