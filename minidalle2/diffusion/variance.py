"""Learned variance (Nichol & Dhariwal 2021), which the paper's decoder uses in sampling (table 3).

The network has twice the output channels: the prediction, and a fraction v, roughly in [-1, 1].
v interpolates each log-variance between the smallest and the largest reasonable value.
"""

import math

import torch
from torch import Tensor

from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule, at

VLB_WEIGHT = 0.001  # of the variational bound, summed over all T steps, beside the MSE


def split_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """(B, 2C, …) → prediction (B, C, …), fraction (B, C, …). (B, C, …) → an empty fraction."""
    return output[:, :channels], output[:, channels:]


def learned_log_variance(fraction: Tensor, schedule: Schedule, t: Tensor) -> Tensor:
    """Equation 15, an interpolation of logarithms: v = -1 gives log β̃ (small), v = 1 log β."""
    share = (fraction + 1) / 2
    large = at(schedule.log_betas, t, fraction)
    small = at(schedule.posterior_log_variance, t, fraction)
    return share * large + (1 - share) * small


def posterior_mean(schedule: Schedule, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The mean of q(x_{t-1} | x_t, x_0)."""
    return at(schedule.x0_weight, t, x_t) * x0 + at(schedule.xt_weight, t, x_t) * x_t


def variance_loss(
    diffusion: Diffusion,
    prediction: Tensor,
    fraction: Tensor,
    x0: Tensor,
    x_t: Tensor,
    t: Tensor,
    probability: Tensor,
) -> Tensor:
    """(B,) an unbiased estimate of the variational bound from one timestep per sample.

    The bound is a sum over all t that samplers visit, so from `diffusion.lowest` on. Each sample
    contributes the term of its own t, divided by the `probability` (B,) with which that t was
    drawn. For uniform t the probability is 1/T. The result is in bits per dimension, times
    VLB_WEIGHT. The mean is detached, so that this loss trains the variance only.
    """
    schedule = diffusion.schedule
    estimate = diffusion.to_x0(prediction.detach(), x_t, t)
    mean = posterior_mean(schedule, estimate, x_t, t)
    log_variance = learned_log_variance(fraction, schedule, t)
    true_mean = posterior_mean(schedule, x0, x_t, t)
    true_log_variance = at(schedule.posterior_log_variance, t, x_t).expand_as(x_t)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    nll = -discretized_log_likelihood(x0, mean, log_variance)
    first = (t == 0).reshape(-1, *[1] * (x_t.ndim - 1))
    bits = torch.where(first, nll, kl).flatten(1).mean(1) / math.log(2)
    return VLB_WEIGHT * bits.masked_fill(t < diffusion.lowest, 0) / probability


def gaussian_kl(
    mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor
) -> Tensor:
    """KL(N1 ‖ N2) of each element, in nats."""
    ratio = (log_variance1 - log_variance2).exp()
    distance = (mean1 - mean2) ** 2 * (-log_variance2).exp()
    return 0.5 * (log_variance2 - log_variance1 + ratio + distance - 1)


def discretized_log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log P of the 8-bit value that x0 in [-1, 1] stands for. The two end bins are unbounded."""
    deviation = (x0 - mean) * (-0.5 * log_variance).exp()
    half_bin = (-0.5 * log_variance).exp() / 255
    below, above = _normal_cdf(deviation - half_bin), _normal_cdf(deviation + half_bin)
    probability = torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1 - below, above - below))
    return probability.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))
