"""Analytic-DPM (Bao et al. 2022), which the paper's prior is sampled with: DDPM's steps with the
variance that is best for them, worked out from a trained network without training it further.

A step back from x_t knows x0 only as far as x_t tells it. Its variance is what the posterior has
left once x0 is known, plus what x_t leaves open of x0, by the law of total variance. The second is
small with many steps and large with few; DDPM's fixed variances ignore it or guess.
"""

import torch
from torch import Tensor

from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import respace, spaced_timesteps


@torch.no_grad()
def mean_squared_eps(
    diffusion: Diffusion,
    denoise: Denoiser,
    x0: Tensor,
    timesteps: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """(steps,), for each of the timesteps the mean square of the network's eps, over clean samples
    x0 (B, …). Their conditions, if any, are bound in `denoise`, which is not to be guided.

    Divided by the mean square of the eps that was really drawn, which is 1 but for chance: a
    network that finds it all shall get exactly 1, because what is missing to 1 is what counts.
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
    """(steps,) of the reverse steps, in float64, in the order of sampling: t = T-1 first.

    Bao et al., theorem 1 with DDPM's λ² = β̃, where their factor of 1 - E[eps²] is the posterior's
    weight of x0, squared, times (1-ᾱ)/ᾱ. x_t leaves open no less than 0 and no more than the
    variance of a number of x0, `data_variance` (bounds like those of their theorem 2); where little
    signal is left the bounds, not the estimate, decide.
    """
    kept = respace(diffusion.schedule, spaced_timesteps(len(diffusion.schedule), steps))
    alpha_bar = kept.alpha_bar.flip(0)
    left_open = (1 - alpha_bar) / alpha_bar * (1 - squared_eps.double())
    left_open = left_open.clamp(0, data_variance)
    return kept.posterior_variance.flip(0) + kept.x0_weight.flip(0).double() ** 2 * left_open


def analytic_variance(
    diffusion: Diffusion, denoise: Denoiser, x0: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """(steps,) for `ddpm`: both of the above, for samples x0 (B, …) as they are in training."""
    timesteps = spaced_timesteps(len(diffusion.schedule), steps)
    squared_eps = mean_squared_eps(diffusion, denoise, x0, timesteps, generator)
    return optimal_variance(diffusion, squared_eps, x0.var(0).mean().item(), steps)
