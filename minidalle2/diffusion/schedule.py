"""The noise schedule: ᾱ(t), and every quantity that follows from it.

Timesteps are integers from 0 (almost clean) to T-1 (almost pure noise). Paper, table 3: a cosine
schedule for the prior, the decoder and the first upsampler, a linear one for the second upsampler.
"""

import math

import torch
from torch import Tensor, nn

MAX_BETA = 0.999


def cosine_betas(steps: int = 1000) -> Tensor:
    """(T,) float64. Nichol & Dhariwal 2021, equation 17: β(t) = 1 - ᾱ(t+1)/ᾱ(t), clipped."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)


def linear_betas(steps: int = 1000) -> Tensor:
    """(T,) float64. Ho et al. 2020: 0.0001 to 0.02 over 1,000 steps, rescaled to T steps.

    Rescaled betas must be smaller than 1. This fails for T ≤ 20, which raises ValueError.
    """
    if steps <= 20:
        raise ValueError(
            f"a linear schedule needs more than 20 timesteps, not {steps}; use a cosine schedule"
        )
    scale = 1000 / steps
    return torch.linspace(scale * 0.0001, scale * 0.02, steps, dtype=torch.float64)


class Schedule(nn.Module):
    """ᾱ and the posterior q(x_{t-1} | x_t, x_0) of a sequence of betas, each (T,).

    Everything is computed in float64. The tensors that multiply pictures are float32 buffers, so
    they move to a GPU with the network. They are not saved with the weights. `alpha_bar` stays
    float64 on the CPU, because near t = 0 and t = T-1 float32 is too coarse.
    """

    def __init__(self, betas: Tensor):
        super().__init__()
        betas = betas.double()
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        previous = torch.cat((torch.ones(1, dtype=torch.float64), alpha_bar[:-1]))
        variance = betas * (1 - previous) / (1 - alpha_bar)
        # The posterior variance at t = 0 is 0 and its logarithm is -∞. Use the value of t = 1.
        log_variance = torch.cat((variance[1:2], variance[1:])).log()
        self.alpha_bar = alpha_bar
        self._add("betas", betas)
        self._add("previous_alpha_bar", previous)
        self._add("posterior_variance", variance)
        self._add("posterior_log_variance", log_variance)
        self._add("log_betas", betas.log())
        # Take square roots before rounding: at small t, 1 - ᾱ would lose all digits in float32.
        self._add("signal", alpha_bar.sqrt())  # √ᾱ
        self._add("noise", (1 - alpha_bar).sqrt())  # √(1-ᾱ)
        # Posterior mean = x0_weight · x0 + xt_weight · x_t (Ho et al. 2020, equation 7).
        self._add("x0_weight", betas * previous.sqrt() / (1 - alpha_bar))
        self._add("xt_weight", (1 - betas).sqrt() * (1 - previous) / (1 - alpha_bar))

    def _add(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float(), persistent=False)

    def __len__(self) -> int:
        return len(self.alpha_bar)


def spaced_timesteps(total: int, steps: int, lowest: int = 0) -> Tensor:
    """(steps,) timesteps from T-1 down to `lowest`, both included, evenly spaced.

    Raises ValueError if there are fewer timesteps than steps.
    """
    if not 1 <= steps <= total - lowest:
        raise ValueError(
            f"cannot take {steps} sampling steps; this schedule allows 1 to {total - lowest}"
        )
    if steps == 1:
        return torch.tensor([total - 1])
    return torch.linspace(total - 1, lowest, steps, dtype=torch.float64).round().long()


def respace(schedule: Schedule, timesteps: Tensor) -> Schedule:
    """The schedule of the kept timesteps only, in ascending t: betas are recomputed from their ᾱ.

    The network still receives the original timesteps, because it was trained with them.
    """
    alpha_bar = schedule.alpha_bar[timesteps.flip(0)]
    previous = torch.cat((torch.ones(1, dtype=torch.float64), alpha_bar[:-1]))
    return Schedule(1 - alpha_bar / previous)


def at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values (T,), t (B,) → (B, 1, …), with as many dimensions as `like` (B, …)."""
    return values.to(like.device)[t].reshape(-1, *[1] * (like.ndim - 1))
