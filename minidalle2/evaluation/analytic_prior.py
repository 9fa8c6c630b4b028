"""The diffusion prior sampled as the paper samples its own: Analytic-DPM, 64 steps (table 3)."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from minidalle2.diffusion.analytic import analytic_variance
from minidalle2.diffusion.sampling import ddpm, last
from minidalle2.prior import Prior

STEPS = 64


class AnalyticPrior:
    """A trained prior with the variance of its steps, measured once; stands in for the prior."""

    def __init__(self, prior: Prior, z_i: Tensor, z_t: Tensor, tokens: Tensor, steps: int = STEPS):
        """z_i, z_t (M, E) and tokens (M, T) of pictures and captions as in training."""
        self.prior, self.steps = prior, steps
        denoise = prior.denoiser(z_t, tokens, guidance=1.0)
        self.variance = analytic_variance(
            prior.diffusion, denoise, z_i * prior.scale, steps, torch.Generator().manual_seed(0)
        )

    @property
    def noise_size(self) -> int:
        """x_T and the noise of each step; the last step adds none."""
        return self.steps * self.prior.config.clip_embedding

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """x_T (B, n, steps·E) → (B, n, E), unit length. The number of steps is the one that the
        variance was measured for, not `steps`, which is DDIM's."""
        n = x_T.shape[1]
        first, *rest = rearrange(x_T, "b n (s e) -> s (b n) e", s=self.steps)
        later = iter(rest)
        denoise = self.prior.denoiser(
            repeat(z_t, "b e -> (b n) e", n=n), repeat(tokens, "b t -> (b n) t", n=n), guidance
        )
        z = last(
            ddpm(
                self.prior.diffusion, denoise, first, self.steps, lambda *_: next(later),
                variance=self.variance,
            )
        )  # fmt: skip
        return rearrange(F.normalize(z, dim=-1), "(b n) e -> b n e", n=n)
