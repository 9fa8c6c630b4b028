"""The diffusion prior: text embedding (and caption) → image embedding.

z_t (B, E) and tokens (B, T) → z_i (B, E). Paper: section 2.2 and appendix C. A causal transformer
reads the tokens of the caption, z_t, the timestep, the noised z_i and a learned query. Its output
at the query is an estimate of z_i itself. Sampling uses DDIM. The paper uses Analytic-DPM
(priors/analytic_dpm.py). The folder priors/ also has other priors.
Letters: B batch, T tokens, D width, E embedding, n candidates.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TimeEmbedding
from minidalle2.blocks.transformer import Transformer, causal_mask
from minidalle2.blocks.validation import require, require_positive
from minidalle2.diffusion.guidance import Denoiser, drop_mask, guided
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import ddim, last
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.tokenizer import PAD, empty_captions_like

TEXT_DROP = 0.1  # "randomly dropping this text conditioning information 10% of the time"
# Appendix C multiplies unit embeddings by 17.2. Then each of the 1,024 dimensions has the standard
# deviation of an ImageNet pixel, 0.5375. For E dimensions the same deviation needs 0.5375 √E.
DEVIATION = 17.2 / 1024**0.5


@dataclass
class PriorConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a caption
    clip_embedding: int = 128  # E
    width: int = 128  # D
    layers: int = 4
    heads: int = 4
    timesteps: int = 1000

    def __post_init__(self):
        require_positive(self, "vocab_size context_length clip_embedding width heads")
        require(self.timesteps >= 2, f"a diffusion needs 2 timesteps or more, not {self.timesteps}")


class Prior(nn.Module):
    """(noised z_i, t, z_t, tokens) → z_i. The noised z_i and the result are scaled: (B, E)."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.noise_size = config.clip_embedding  # of x_T, which determines one candidate
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
        """z_noised (B, E) scaled, t (B,), z_t (B, E) unit length, tokens (B, T) → (B, E) scaled.

        `drop` (B,) is True where caption and z_t are dropped. The noised z_i always stays.
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
        # Padding stands between the text and the last four, so causality does not hide it.
        real = F.pad(tokens != PAD, (0, 4), value=True)[:, None, None]  # (B, 1, 1, T+4)
        x = self.transformer(x, causal_mask(x.shape[1], x.device) & real)
        return self.out(x[:, -1]).float()  # (B, E)

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
        """x_T (B, n, E) → n candidates of z_i for each caption (B, n, E), unit length."""
        n = x_T.shape[1]
        denoise = self.denoiser(
            repeat(z_t, "b e -> (b n) e", n=n), repeat(tokens, "b t -> (b n) t", n=n), guidance
        )
        z = last(ddim(self.diffusion, denoise, rearrange(x_T, "b n e -> (b n) e"), steps))
        return rearrange(F.normalize(z, dim=-1), "(b n) e -> b n e", n=n)


def prior_draws(prior: Prior, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The random numbers of one training step: t (n,), eps (n, E), and which texts to drop (n,)."""
    t = torch.randint(len(prior.diffusion.schedule), (n,), generator=generator)
    eps = torch.randn(n, prior.config.clip_embedding, generator=generator)
    return t, eps, drop_mask(n, TEXT_DROP, generator)


def prior_loss(
    prior: Prior, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (unit z_i, unit z_t, tokens) with fresh random numbers."""
    draws = prior_draws(prior, len(batch[0]), generator)
    return prior_loss_at(prior, batch, tuple(draw.to(batch[0].device) for draw in draws))


def prior_loss_at(
    prior: Prior, batch: tuple[Tensor, Tensor, Tensor], draws: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """The MSE of the scaled z_i, for given random numbers (`prior_draws`)."""
    (z_i, z_t, tokens), (t, eps, drop) = batch, draws
    target = z_i * prior.scale  # a new tensor, because z_i may be a stored tensor
    noised = prior.diffusion.add_noise(target, t, eps)
    return F.mse_loss(prior(noised, t, z_t, tokens, drop), target)
