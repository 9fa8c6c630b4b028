"""How much signal is left at each timestep: ᾱ(t), and everything that follows from it.

Timesteps are integers, 0 (almost clean) to T-1 (almost pure noise). Paper, table 3: cosine for the
prior, the decoder and the first upsampler, linear for the second.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

MAX_BETA = 0.999


def cosine_betas(steps: int = 1000) -> Tensor:
    """Nichol & Dhariwal 2021, equation 17: β(t) = 1 - ᾱ(t+1)/ᾱ(t), clipped. (T,), float64."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)


def linear_betas(steps: int = 1000) -> Tensor:
    """Ho et al. 2020: 0.0001 to 0.02 over 1,000 steps, rescaled so that any T ends as noisy.

    Rescaled betas must stay below 1, which T = 20 is the last to break. (T,), float64.
    """
    if steps <= 20:
        raise ValueError(f"a linear schedule needs more than 20 steps, not {steps}; use the cosine")
    scale = 1000 / steps
    return torch.linspace(scale * 0.0001, scale * 0.02, steps, dtype=torch.float64)


class Schedule:
    """ᾱ and the posterior q(x_{t-1} | x_t, x_0) of a sequence of betas, all (T,).

    Computed in float64, in which ᾱ stays: at its ends it is too close to 0 or 1 for less. What
    multiplies tensors is float32.
    """

    def __init__(self, betas: Tensor):
        betas = betas.double()
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        previous = torch.cat((torch.ones(1, dtype=torch.float64), alpha_bar[:-1]))
        variance = betas * (1 - previous) / (1 - alpha_bar)
        # β̃ is 0 at t = 0, where its logarithm would be -∞: the value of t = 1 stands in.
        log_variance = torch.cat((variance[1:2], variance[1:])).log()
        self.betas = betas.float()
        self.alpha_bar = alpha_bar
        self.previous_alpha_bar = previous.float()
        self.posterior_variance = variance.float()
        self.posterior_log_variance = log_variance.float()
        self.log_betas = betas.log().float()
        # Square roots are taken before rounding: 1 - ᾱ cancels at the clean end in float32.
        self.signal = alpha_bar.sqrt().float()  # √ᾱ
        self.noise = (1 - alpha_bar).sqrt().float()  # √(1-ᾱ)
        # Posterior mean = x0_weight · x0 + xt_weight · x_t (Ho et al. 2020, equation 7).
        self.x0_weight = (betas * previous.sqrt() / (1 - alpha_bar)).float()
        self.xt_weight = ((1 - betas).sqrt() * (1 - previous) / (1 - alpha_bar)).float()

    def __len__(self) -> int:
        return len(self.betas)


def spaced_timesteps(total: int, steps: int, lowest: int = 0) -> Tensor:
    """(steps,) ids from T-1 down to `lowest`, both included, evenly spread."""
    if not 1 <= steps <= total - lowest:
        raise ValueError(f"cannot take {steps} sampling steps of a schedule of {total - lowest}")
    if steps == 1:
        return torch.tensor([total - 1])
    return torch.linspace(total - 1, lowest, steps, dtype=torch.float64).round().long()


def respace(schedule: Schedule, timesteps: Tensor) -> Schedule:
    """The schedule of the kept timesteps alone: betas recomputed from their ᾱ, ascending in t.

    The network still hears the original ids, on which it was trained.
    """
    alpha_bar = schedule.alpha_bar[timesteps.flip(0)]
    previous = torch.cat((torch.ones(1, dtype=torch.float64), alpha_bar[:-1]))
    return Schedule(1 - alpha_bar / previous)


def at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values (T,), t (B,) → (B, 1, …), to multiply with `like` (B, …)."""
    if values.device != like.device:
        values = _moved(values, like.device)
    return values[t].reshape(-1, *[1] * (like.ndim - 1))


@lru_cache(maxsize=256)
def _moved(values: Tensor, device: torch.device) -> Tensor:
    """Kept: a copy to a GPU waits until all work there is done."""
    return values.to(device)
