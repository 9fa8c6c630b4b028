"""Analytic-DPM (Bao et al. 2022): DDPM with the optimal variance of each step.

The paper samples its prior with it. The optimal variances are computed from a trained network,
without further training. By the law of total variance, the variance of a reverse step is a sum: the
variance of the posterior if x0 were known, plus the variance that comes from not knowing x0 exactly
at x_t. The second term is small with many steps and large with few steps. DDPM's fixed variances
either ignore the second term or replace it by a guess.
"""

import torch
from torch import Tensor

from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import respace


@torch.no_grad()
def mean_squared_eps(
    diffusion: Diffusion,
    denoise: Denoiser,
    x0: Tensor,
    timesteps: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The mean square of the network's eps at each timestep (steps,), for clean samples x0 (B, …).

    `denoise` has the conditions of the samples bound, without guidance. The mean square is divided
    by that of the true eps, which is 1 on average. So a perfect network gets exactly 1. This is
    important, because the variance depends on the difference from 1.
    """
    squares = []
    for t in timesteps.tolist():
        t_batch = torch.full((len(x0),), t, device=x0.device)
        eps = torch.randn(x0.shape, generator=generator).to(x0)
        x_t = diffusion.add_noise(x0, t_batch, eps)
        answer = denoise(x_t, t_batch)[:, : x0.shape[1]]
        estimate = diffusion.to_eps(diffusion.to_x0(answer, x_t, t_batch), x_t, t_batch)
        squares.append(estimate.double().square().mean() / eps.double().square().mean())
    return torch.stack(squares).cpu()


def optimal_variance(
    diffusion: Diffusion, squared_eps: Tensor, data_variance: float, steps: int
) -> Tensor:
    """The variances of the reverse steps (steps,), in float64, in the order of sampling (large t
    first).

    Bao et al., theorem 1 with λ² = β̃ as in DDPM. Their factor of 1 - E[eps²] is (1-ᾱ)/ᾱ, times the
    squared weight of x0 in the posterior mean. The variance of x0 given x_t is therefore
    (1-ᾱ)/ᾱ · (1 - E[eps²]). It is limited to the range from 0 to `data_variance`, the variance of
    one number of x0 (similar to the bounds of their theorem 2). At large t, where x_t contains
    little signal, the limits are more reliable than the estimate.
    """
    kept = respace(diffusion.schedule, diffusion.timesteps(steps))
    alpha_bar = kept.alpha_bar.flip(0)
    left_open = (1 - alpha_bar) / alpha_bar * (1 - squared_eps.double())
    left_open = left_open.clamp(0, data_variance)
    return kept.posterior_variance.flip(0) + kept.x0_weight.flip(0).double() ** 2 * left_open


def analytic_variance(
    diffusion: Diffusion, denoise: Denoiser, x0: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """The variances (steps,) for `ddpm`, measured with training samples x0 (B, …)."""
    timesteps = diffusion.timesteps(steps)
    squared_eps = mean_squared_eps(diffusion, denoise, x0, timesteps, generator)
    return optimal_variance(diffusion, squared_eps, x0.var(0).mean().item(), steps)
