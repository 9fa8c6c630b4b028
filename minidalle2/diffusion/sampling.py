"""From noise to a sample: DDPM and DDIM as generators that yield every state.

Each sampler takes a denoiser (x_t, t) → output that already contains the condition and guidance.
Noise comes from a `Noise` object with one seed per sample. Therefore a sample does not depend on
the other samples of its batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import at, respace
from minidalle2.diffusion.variance import learned_log_variance, posterior_mean, split_variance

Clip = Callable[[Tensor], Tensor]  # applied to every estimate of x0


@dataclass
class State:
    """One step of a sampler: at timestep t the network received x_t and estimated x0."""

    t: int
    x_t: Tensor  # (B, …) input of the network
    x0: Tensor  # (B, …) its estimate of the clean sample, clipped
    x_next: Tensor  # (B, …) the next x_t; after the last step, the sample


class Noise:
    """Standard normal noise from one seed per sample: every call gives a new (B, *shape).

    The noise is drawn on the CPU, so that a seed gives the same noise on every device.
    """

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, *shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])


def clip_to_image(x0: Tensor) -> Tensor:
    """Limits pixels to [-1, 1]. Only estimates of x0 are clipped, never x_t."""
    return x0.clamp(-1, 1)


def no_clip(x0: Tensor) -> Tensor:
    return x0


def ddim(
    diffusion: Diffusion,
    denoise: Denoiser,
    x: Tensor,
    steps: int,
    clip: Clip = no_clip,
    eta: float = 0.0,
    noise: Noise | None = None,
) -> Iterator[State]:
    """DDIM (Song et al. 2021, equation 12) from x = x_T.

    eta 0 is deterministic. eta 1 has DDPM's variance and needs `noise`. The last step goes from
    timestep `diffusion.lowest` to the clean sample, as in every sampler here.
    """
    timesteps = diffusion.timesteps(steps)
    alpha_bar = diffusion.schedule.alpha_bar[timesteps].tolist() + [1.0]  # after the last: clean
    for i, t in enumerate(timesteps.tolist()):
        t_batch = torch.full((len(x),), t, device=x.device)
        prediction = denoise(x, t_batch)[:, : x.shape[1]]
        x0 = clip(diffusion.to_x0(prediction, x, t_batch))
        eps = diffusion.to_eps(x0, x, t_batch)
        here, there = alpha_bar[i], alpha_bar[i + 1]
        sigma = eta * ((1 - there) / (1 - here) * (1 - here / there)) ** 0.5
        x_next = there**0.5 * x0 + max(1 - there - sigma**2, 0.0) ** 0.5 * eps
        if sigma > 0:
            x_next = x_next + sigma * noise(*x.shape[1:]).to(x)
        yield State(t, x, x0, x_next)
        x = x_next


def ddpm(
    diffusion: Diffusion,
    denoise: Denoiser,
    x: Tensor,
    steps: int,
    noise: Callable[..., Tensor],
    clip: Clip = no_clip,
    variance: Tensor | None = None,
) -> Iterator[State]:
    """DDPM (Ho et al. 2020, algorithm 2) on a respaced schedule, from x = x_T.

    `variance` (steps,) has the variance of each step, at t = T-1 first, for example Analytic-DPM's.
    Without it, a denoiser with twice the channels uses its learned variance, and any other denoiser
    the smaller fixed variance.
    """
    timesteps = diffusion.timesteps(steps)
    kept = respace(diffusion.schedule, timesteps).to(x.device)
    for i, t in zip(reversed(range(steps)), timesteps.tolist(), strict=True):
        index = torch.full((len(x),), i, device=x.device)  # within the kept steps
        t_batch = torch.full((len(x),), t, device=x.device)  # the timestep known from training
        prediction, fraction = split_variance(denoise(x, t_batch), x.shape[1])
        x0 = clip(diffusion.to_x0(prediction, x, t_batch))
        if i == 0:
            x_next = x0
        else:
            log_variance = at(kept.posterior_log_variance, index, x)
            if variance is not None:
                log_variance = variance[steps - 1 - i].log()
            elif fraction.shape[1]:
                log_variance = learned_log_variance(fraction, kept, index)
            x_next = posterior_mean(kept, x0, x, index)
            x_next = x_next + (0.5 * log_variance).exp() * noise(*x.shape[1:]).to(x)
        yield State(t, x, x0, x_next)
        x = x_next


def last(states: Iterator[State]) -> Tensor:
    """The sample at the end of a sampler."""
    for state in states:  # noqa: B007
        pass
    return state.x_next
