"""Text embedding (and caption) → image embedding: the diffusion prior.

z_t (B, E) and tokens (B, T) → z_i (B, E). Paper: section 2.2 and appendix C. A causal transformer
reads the caption's tokens, z_t, the timestep, the noised z_i and a learned query, and answers at
the query with z_i itself. It is sampled with DDIM, not, as the paper's, with Analytic-DPM, which
evaluation/analytic_prior.py tries. Beside it: autoregressive_prior.py and regression_prior.py.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TimeEmbedding
from minidalle2.blocks.transformer import Transformer, causal_mask
from minidalle2.diffusion.guidance import Denoiser, drop_mask, guided
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import ddim, last
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.tokenizer import PAD, empty_captions_like

TEXT_DROP = 0.1  # "we drop the text conditioning information 10 % of the time"
# Appendix C multiplies unit embeddings by 17.2, which gives each of their 1024 dimensions the
# deviation of an ImageNet pixel, 0.5375. The same deviation for E dimensions is 0.5375 √E.
DEVIATION = 17.2 / 1024**0.5


@dataclass
class PriorConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a caption
    clip_embedding: int = 128  # E
    width: int = 128
    layers: int = 4
    heads: int = 4
    timesteps: int = 1000


class Prior(nn.Module):
    """(noised z_i, t, z_t, tokens) → z_i, all embeddings scaled: (B, E)."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.diffusion = Diffusion(Schedule(cosine_betas(config.timesteps)), "x0")
        self.scale = DEVIATION * config.clip_embedding**0.5
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Parameter(torch.randn(config.context_length, config.width) * 0.02)
        self.text_projection = nn.Linear(config.clip_embedding, config.width)
        self.null_text = nn.Parameter(torch.zeros(config.clip_embedding))
        self.time_embedding = TimeEmbedding(config.width)
        self.image_projection = nn.Linear(config.clip_embedding, config.width)
        self.query = nn.Parameter(torch.randn(config.width) * 0.02)
        self.slot = nn.Parameter(torch.randn(4, config.width) * 0.02)  # positions of the last four
        self.transformer = Transformer(config.width, config.layers, config.heads)
        self.out = nn.Linear(config.width, config.clip_embedding)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z_noised: Tensor, t: Tensor, z_t: Tensor, tokens: Tensor, drop: Tensor
    ) -> Tensor:
        """z_noised (B, E) scaled, z_t (B, E) unit, tokens (B, T); `drop` (B,) loses the text.

        The unconditional answer still sees the noised z_i: dropping means the caption and z_t.
        """
        tokens = torch.where(drop[:, None], empty_captions_like(tokens), tokens)
        z_t = torch.where(drop[:, None], self.null_text, z_t * self.scale)
        text = self.token_embedding(tokens) + self.position[: tokens.shape[1]]  # (B, T, D)
        four = torch.stack(
            (
                self.text_projection(z_t),
                self.time_embedding(t),
                self.image_projection(z_noised),
                self.query.expand(len(z_noised), -1),
            ),
            dim=1,
        )  # (B, 4, D)
        x = torch.cat((text, four + self.slot), dim=1)
        # Pads stand between the text and the four, so causality alone would not hide them.
        real = F.pad(tokens != PAD, (0, 4), value=True)[:, None, None]  # (B, 1, 1, T+4)
        x = self.transformer(x, causal_mask(x.shape[1], x.device) & real)
        return self.out(x[:, -1]).float()  # (B, E)

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that decide one draw: x_T."""
        return self.config.clip_embedding

    def denoiser(self, z_t: Tensor, tokens: Tensor, guidance: float) -> Denoiser:
        """The network with its condition bound and guidance applied, as the samplers take it."""
        keep = torch.zeros(len(z_t), dtype=torch.bool, device=z_t.device)
        return guided(
            lambda z, t: self(z, t, z_t, tokens, keep),
            lambda z, t: self(z, t, z_t, tokens, ~keep),
            guidance,
            self.config.clip_embedding,
        )

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """n draws of z_i for each caption, from noise x_T (B, n, E) → (B, n, E), unit length."""
        n = x_T.shape[1]
        denoise = self.denoiser(
            repeat(z_t, "b e -> (b n) e", n=n), repeat(tokens, "b t -> (b n) t", n=n), guidance
        )
        z = last(ddim(self.diffusion, denoise, rearrange(x_T, "b n e -> (b n) e"), steps))
        return rearrange(F.normalize(z, dim=-1), "(b n) e -> b n e", n=n)


def nearest(candidates: Tensor, z_t: Tensor, k: int = 1) -> Tensor:
    """(B, n, E), (B, E) unit vectors → (B, k) the candidates with the highest dot products, in
    that order (section 2.2); from the first again where k > n."""
    order = (candidates * z_t[:, None]).sum(-1).argsort(dim=1, descending=True, stable=True)
    return order[:, torch.arange(k, device=order.device) % order.shape[1]]


def prior_loss(
    prior: Prior, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """MSE of z_i, scaled, for (unit z_i, unit z_t, tokens)."""
    z_i, z_t, tokens = batch
    n, device = len(z_i), z_i.device
    target = z_i * prior.scale  # a new tensor: a cached z_i must not be scaled in place
    t = torch.randint(len(prior.diffusion.schedule), (n,), generator=generator).to(device)
    eps = torch.randn(z_i.shape, generator=generator).to(device)
    drop = drop_mask(n, TEXT_DROP, generator).to(device)
    noised = prior.diffusion.add_noise(target, t, eps)
    return F.mse_loss(prior(noised, t, z_t, tokens, drop), target)
