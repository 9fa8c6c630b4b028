"""The decoder: image embedding (and caption) → 32 px picture, by diffusion.

z_i (B, E) and tokens (B, T) → (B, 3, 32, 32). Paper: section 2.1. z_i enters in two ways: projected
and added to the timestep embedding, and as 4 extra context tokens beside the tokens of a text
encoder, which is trained with the decoder. Not in the paper: a layer turns z_i into a picture with
`laid_out` channels, which the U-Net reads beside the noisy picture. So the U-Net need not learn
where each feature belongs. In training, caption and z_i are dropped at random for guidance.
Letters: B batch, T tokens, D width, E embedding, C channels, S pixels a side.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TextEncoder, TimeEmbedding
from minidalle2.blocks.unet import UNet, UNetConfig
from minidalle2.blocks.validation import require, require_positive
from minidalle2.diffusion.guidance import Denoiser, drop_mask, guided
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.diffusion.variance import split_variance, variance_loss
from minidalle2.tokenizer import PAD, empty_captions_like

CHANNELS = 3
IMAGE_TOKENS = 4  # "projecting CLIP embeddings into four extra tokens of context"
IMAGE_DROP, CAPTION_DROP = 0.1, 0.5  # section 2.1
# The last step of a sampler starts at t = LOWEST · T. Training rarely visits smaller t, so there
# white would become tinted. Also, to_eps divides an error of x0 by √(1-ᾱ), only 0.006 at t = 0.
LOWEST = 0.02
UNIFORM_SHARE = 0.1  # of the training timesteps; the others are mostly large

Draws = tuple[Tensor, Tensor, Tensor, Tensor]  # t, eps, dropped images, dropped captions


@dataclass
class DecoderConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a caption
    clip_embedding: int = 128  # E
    image_size: int = 32  # S
    patch: int = 2  # the U-Net sees squares of 2x2 pixels: half the time, and it learns faster
    widths: tuple[int, ...] = (64, 96, 128)  # channels at 16, 8 and 4 squares a side
    blocks: tuple[int, ...] = (1, 1, 1)
    attention: tuple[bool, ...] = (False, True, True)  # not at the finest level (table 3)
    embedding: int = 256  # D of the timestep embedding
    laid_out: int = 0  # channels of z_i as a picture; 0 as in the paper
    text_width: int = 128
    text_layers: int = 3  # like CLIP's text tower, whose weights it starts from
    text_heads: int = 4
    timesteps: int = 1000

    def __post_init__(self):
        require_positive(self, "vocab_size context_length clip_embedding text_width text_heads")
        require(self.laid_out >= 0, f"laid_out is a number of channels, not {self.laid_out}")
        require(self.timesteps >= 2, f"a diffusion needs 2 timesteps or more, not {self.timesteps}")
        self.unet.check_size(self.image_size)

    @property
    def unet(self) -> UNetConfig:
        """Noisy picture, coordinates and laid-out z_i → x0 and the fraction of the variance."""
        return UNetConfig(
            channels_in=CHANNELS + 2 + self.laid_out,
            channels_out=2 * CHANNELS,
            widths=self.widths,
            blocks=self.blocks,
            attention=self.attention,
            patch=self.patch,
            embedding=self.embedding,
            context=self.text_width,
        )


class Decoder(nn.Module):
    """(x_t, t, z_i, tokens) → x0 and the fraction of the variance, (B, 6, 32, 32)."""

    caption_drop = CAPTION_DROP

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        lowest = int(LOWEST * config.timesteps)
        self.diffusion = Diffusion(Schedule(cosine_betas(config.timesteps)), "x0", lowest)
        self.text_encoder = TextEncoder(
            config.vocab_size,
            config.context_length,
            config.text_width,
            config.text_layers,
            config.text_heads,
        )
        self.time_embedding = TimeEmbedding(config.embedding)
        self.null_image = nn.Parameter(torch.zeros(config.clip_embedding))
        self.image_to_embedding = nn.Linear(config.clip_embedding, config.embedding)
        self.image_to_tokens = nn.Linear(config.clip_embedding, IMAGE_TOKENS * config.text_width)
        self.image_to_picture = picture_layers(config) if config.laid_out else None
        self.unet = UNet(config.unet)

    def forward(self, x_t: Tensor, t: Tensor, z_i: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x_t (B, 3, S, S), t (B,), z_i (B, E) from `image_condition`, context (B, T, D) and mask
        (B, T) from `encode_text` → (B, 6, S, S)."""
        embedding = self.time_embedding(t) + self.image_to_embedding(z_i)
        image_tokens = rearrange(self.image_to_tokens(z_i), "b (k d) -> b k d", k=IMAGE_TOKENS)
        context = torch.cat((image_tokens, context), dim=1)  # (B, 4+T, D)
        mask = F.pad(mask, (IMAGE_TOKENS, 0), value=True)
        seen = [x_t, coordinates(x_t)]
        if self.image_to_picture is not None:
            seen.append(self.image_to_picture(z_i))
        return self.unet(torch.cat(seen, dim=1), embedding, context, mask)

    def image_condition(self, z_i: Tensor, drop: Tensor) -> Tensor:
        """Unit z_i (B, E) → scaled to unit variance, or the learned null where `drop` (B,)."""
        scaled = z_i * self.config.clip_embedding**0.5
        return torch.where(drop[:, None], self.null_image, scaled)

    def encode_text(self, tokens: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) → context (B, T, D) and its mask (B, T). A dropped caption becomes empty."""
        tokens = torch.where(drop[:, None], empty_captions_like(tokens), tokens)
        if tokens.device.type != "cpu":  # finding equal captions is slower there than encoding
            return self.text_encoder(tokens), tokens != PAD
        # Half of the training captions are dropped. Encode the empty caption only once.
        distinct, row = tokens.unique(dim=0, return_inverse=True)
        return self.text_encoder(distinct)[row], tokens != PAD

    def denoiser(
        self, z_i: Tensor, tokens: Tensor, guidance: float, guided_above: float = 0.0
    ) -> Denoiser:
        """The network with its conditions bound and guidance applied, as the samplers take it.

        z_i (B, E) unit length, tokens (B, T). Guidance ends below t = guided_above · T. The
        conditions are the same at every step, so they are encoded once.
        """
        keep = torch.zeros(len(z_i), dtype=torch.bool, device=z_i.device)

        def bind(drop: Tensor) -> Denoiser:
            image, (context, mask) = self.image_condition(z_i, drop), self.encode_text(tokens, drop)
            return lambda x_t, t: self(x_t, t, image, context, mask)

        above = round(guided_above * self.config.timesteps)
        return guided(bind(keep), bind(~keep), guidance, CHANNELS, above)


def picture_layers(config: DecoderConfig) -> nn.Module:
    """z_i (B, E) → (B, laid_out, S, S)."""
    shape = (config.laid_out, config.image_size, config.image_size)
    return nn.Sequential(
        nn.Linear(config.clip_embedding, config.embedding),
        nn.SiLU(),
        nn.Linear(config.embedding, math.prod(shape)),
        nn.Unflatten(1, shape),
    )


def coordinates(images: Tensor) -> Tensor:
    """(B, C, S, S) → (B, 2, S, S): x and y of each pixel, in [-1, 1].

    A convolution alone cannot tell left from right (Liu et al. 2018, CoordConv).
    """
    axis = torch.linspace(-1, 1, images.shape[-1], device=images.device)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy")).expand(len(images), -1, -1, -1)


def noisy_timesteps(n: int, timesteps: int, generator: torch.Generator) -> Tensor:
    """(n,) timesteps, most of them with probability proportional to t, the others uniform.

    At large t the network decides where each object goes, which is the hardest part to learn. So
    large t is sampled most. Without the uniform share, small t would almost never be sampled.
    """
    late = timesteps * torch.rand(n, generator=generator).sqrt()
    even = timesteps * torch.rand(n, generator=generator)
    is_even = torch.rand(n, generator=generator) < UNIFORM_SHARE
    return torch.where(is_even, even, late).long().clamp(max=timesteps - 1)


def timestep_probability(t: Tensor, timesteps: int) -> Tensor:
    """(B,) → (B,) the probability with which `noisy_timesteps` returns each t."""
    late = (2 * t.float() + 1) / timesteps**2  # P(t ≤ T·√u < t+1) for uniform u
    return UNIFORM_SHARE / timesteps + (1 - UNIFORM_SHARE) * late


def decoder_draws(decoder: Decoder, n: int, generator: torch.Generator) -> Draws:
    """The random numbers of one training step: t (n,), eps (n, 3, S, S), and where to drop z_i and
    the caption, both (n,)."""
    size = decoder.config.image_size
    t = noisy_timesteps(n, decoder.config.timesteps, generator)
    eps = torch.randn(n, CHANNELS, size, size, generator=generator)
    drop_image = drop_mask(n, IMAGE_DROP, generator)
    return t, eps, drop_image, drop_mask(n, decoder.caption_drop, generator)


def decoder_loss(
    decoder: Decoder, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (images, their z_i, tokens) with fresh random numbers."""
    draws = decoder_draws(decoder, len(batch[0]), generator)
    return decoder_loss_at(decoder, batch, tuple(draw.to(batch[0].device) for draw in draws))


def decoder_loss_at(decoder: Decoder, batch: tuple[Tensor, Tensor, Tensor], draws: Draws) -> Tensor:
    """The weighted MSE of x0 and the variational bound, for given random numbers.

    The paper predicts eps. We predict x0, because flat shapes are simpler than their noise. Only v
    was tried instead, in one short run.
    """
    (images, z_i, tokens), (t, eps, drop_image, drop_caption) = batch, draws
    diffusion = decoder.diffusion
    x_t = diffusion.add_noise(images, t, eps)
    context, mask = decoder.encode_text(tokens, drop_caption)
    output = decoder(x_t, t, decoder.image_condition(z_i, drop_image), context, mask)
    prediction, fraction = split_variance(output, CHANNELS)
    squared = (prediction - diffusion.target_of(images, t, eps)) ** 2
    mse = (diffusion.x0_weight(t, squared) * squared).mean()
    probability = timestep_probability(t, decoder.config.timesteps)
    bound = variance_loss(diffusion, prediction, fraction, images, x_t, t, probability)
    return mse + bound.mean()
