"""The diffusion prior, sampled as in the paper: Analytic-DPM with 64 steps (table 3)."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from minidalle2.diffusion.sampling import ddpm, last
from minidalle2.prior import Prior
from minidalle2.priors.analytic_dpm import analytic_variance

STEPS = 64


class AnalyticPrior:
    """A trained diffusion prior with another sampler. The variances of its steps are measured once.

    It has the interface of a prior, so it can replace the diffusion prior.
    """

    def __init__(self, prior: Prior, z_i: Tensor, z_t: Tensor, tokens: Tensor, steps: int = STEPS):
        """z_i, z_t (N, E) and tokens (N, T) belong to N training pictures and their captions."""
        self.prior, self.steps = prior, steps
        denoise = prior.denoiser(z_t, tokens, guidance=1.0)
        self.variance = analytic_variance(
            prior.diffusion, denoise, z_i * prior.scale, steps, torch.Generator().manual_seed(0)
        )

    @property
    def noise_size(self) -> int:
        """How many numbers x_T and the noise of all steps have. The last step adds no noise."""
        return self.steps * self.prior.config.clip_embedding

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """x_T (B, n, noise_size) → candidates of z_i (B, n, E), unit length.

        The argument `steps` is ignored, because the variances were measured for self.steps.
        """
        n = x_T.shape[1]
        first, *rest = rearrange(x_T, "b n (s e) -> s (b n) e", s=self.steps)
        later = iter(rest)
        denoise = self.prior.denoiser(
            repeat(z_t, "b e -> (b n) e", n=n), repeat(tokens, "b t -> (b n) t", n=n), guidance
        )
        z = last(
            ddpm(
                self.prior.diffusion,
                denoise,
                first,
                self.steps,
                lambda *_: next(later),
                variance=self.variance,
            )
        )
        return rearrange(F.normalize(z, dim=-1), "(b n) e -> b n e", n=n)
