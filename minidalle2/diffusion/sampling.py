"""From noise to a sample: DDPM and DDIM as generators that yield every state, and DDIM backwards.

All take a denoiser (x_t, t) → answer, with guidance already inside, and any number of steps. Noise
comes from a `Noise` of one seed a sample, so a sample does not depend on the batch it is drawn in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import at, respace, spaced_timesteps
from minidalle2.diffusion.variance import learned_log_variance, posterior_mean, split_variance

Clip = Callable[[Tensor], Tensor]  # applied to every estimate of x0


@dataclass
class State:
    """One step of a sampler: at noise level t the network saw x_t and guessed x0."""

    t: int
    x_t: Tensor  # (B, …) what the network saw
    x0: Tensor  # (B, …) its estimate of the clean sample, clipped
    x_next: Tensor  # (B, …) what it made of x_t; at the last step the sample


class Noise:
    """Standard normal noise from one seed a sample: (B, *shape) at every call, on the CPU, so that
    one seed means one picture on every device."""

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, *shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])


def clip_to_image(x0: Tensor) -> Tensor:
    """Pixels live in [-1, 1]; only estimates of x0 are clipped, never x_t."""
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
    lowest: int = 0,
) -> Iterator[State]:
    """Song et al. 2021, equation 12, from x = x_T. eta 0 is deterministic; eta 1 has DDPM's
    variance and needs `noise`. The last step goes from timestep `lowest` to the clean sample."""
    timesteps = spaced_timesteps(len(diffusion.schedule), steps, lowest)
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
    """Ho et al. 2020, algorithm 2, on a respaced schedule, with a `variance` (steps,) for each step
    (Analytic-DPM's, say); without one, where the denoiser answers twice the channels its learned
    variance is used, else the small fixed one."""
    timesteps = spaced_timesteps(len(diffusion.schedule), steps)
    kept = respace(diffusion.schedule, timesteps)
    for i, t in zip(reversed(range(steps)), timesteps.tolist(), strict=True):
        index = torch.full((len(x),), i, device=x.device)  # within the kept steps
        t_batch = torch.full((len(x),), t, device=x.device)  # what the network was trained on
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


def ddim_inversion(
    diffusion: Diffusion,
    denoise: Denoiser,
    x0: Tensor,
    steps: int,
    refinements: int = 0,
    lowest: int = 0,
) -> Iterator[State]:
    """DDIM run backwards (paper, section 3): from a clean sample to the x_T that leads to it.

    Each step asks for the noise at the level it goes to. The first guess asks at the sample it has;
    each refinement asks again at the sample it would reach. No clipping: that could not be undone.
    """
    timesteps = spaced_timesteps(len(diffusion.schedule), steps, lowest).flip(0)
    x, here = x0, 1.0
    for t in timesteps.tolist():
        t_batch = torch.full((len(x),), t, device=x.device)
        there = diffusion.schedule.alpha_bar[t].item()
        x_next, estimate = x, x
        for _ in range(1 + refinements):
            prediction = denoise(x_next, t_batch)[:, : x.shape[1]]
            estimate = diffusion.to_x0(prediction, x_next, t_batch)
            eps = diffusion.to_eps(estimate, x_next, t_batch)
            clean = (x - (1 - here) ** 0.5 * eps) / here**0.5
            x_next = there**0.5 * clean + (1 - there) ** 0.5 * eps
        yield State(t, x, estimate, x_next)
        x, here = x_next, there


def last(states: Iterator[State]) -> Tensor:
    """The sample that a sampler ends with."""
    for state in states:  # noqa: B007
        pass
    return state.x_next
