"""Image embedding (and caption) → 32 px picture: a diffusion model guided by both.

z_i (B, E) and tokens (B, T) → (B, 3, 32, 32). Paper: section 2.1. z_i enters projected and added to
the timestep embedding, and as 4 extra tokens of context beside those of a text encoder that is
trained with the decoder; and, which is not the paper's, laid out as a picture beside the noisy one,
where there is no need to find out what belongs where. Caption and z_i are dropped at random in
training, so that both can be guided.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TextEncoder, TimeEmbedding
from minidalle2.blocks.unet import UNet, UNetConfig
from minidalle2.diffusion.guidance import Denoiser, drop_mask, guided
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.diffusion.variance import split_variance, variance_loss
from minidalle2.tokenizer import PAD, empty_captions_like

CHANNELS = 3
IMAGE_TOKENS = 4  # "projecting z_i into four extra tokens of context"
IMAGE_DROP, CAPTION_DROP = 0.1, 0.5  # section 2.1
# The cleanest timestep that a drawing visits, and its way back. Training hardly sees those below,
# so that white comes out tinted; and what an error of x0 says of the noise is divided by √(1-ᾱ),
# 0.006 at 0: some inverted pictures were lost so.
LOWEST = 20


@dataclass
class DecoderConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a caption
    clip_embedding: int = 128  # E
    image_size: int = 32
    patch: int = 2  # the U-Net sees squares of 2x2 pixels: half the time, and learns faster
    widths: tuple[int, ...] = (64, 96, 128)  # channels at 16, 8 and 4 squares a side
    blocks: tuple[int, ...] = (1, 1, 1)
    attention: tuple[bool, ...] = (False, True, True)  # not at the finest (table 3)
    embedding: int = 256
    laid_out: int = 0  # channels of z_i as a picture; 0 as in the paper
    guided_above: int = 0  # timestep below which drawings go without guidance; 0 as in the paper
    text_width: int = 128
    text_layers: int = 3  # as CLIP's text tower, from whose weights it starts
    text_heads: int = 4
    timesteps: int = 1000


class Decoder(nn.Module):
    """(x_t, t, z_i, tokens) → x0 and the variance's fraction, (B, 6, 32, 32)."""

    caption_drop = CAPTION_DROP
    lowest = LOWEST

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.diffusion = Diffusion(Schedule(cosine_betas(config.timesteps)), "x0")
        self.text_encoder = TextEncoder(
            config.vocab_size, config.context_length, config.text_width,
            config.text_layers, config.text_heads,
        )  # fmt: skip
        self.time_embedding = TimeEmbedding(config.embedding)
        self.null_image = nn.Parameter(torch.zeros(config.clip_embedding))
        self.image_to_embedding = nn.Linear(config.clip_embedding, config.embedding)
        self.image_to_tokens = nn.Linear(config.clip_embedding, IMAGE_TOKENS * config.text_width)
        self.image_to_picture = picture_of(config) if config.laid_out else None
        self.unet = UNet(
            UNetConfig(
                CHANNELS + 2 + config.laid_out, 2 * CHANNELS,
                config.widths, config.blocks, config.attention,
                patch=config.patch, embedding=config.embedding, context=config.text_width,
            )
        )  # fmt: skip

    def forward(self, x_t: Tensor, t: Tensor, z_i: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """z_i (B, E) as `image_condition` makes it, context (B, T, D) and mask as `encode_text`."""
        embedding = self.time_embedding(t) + self.image_to_embedding(z_i)
        image_tokens = rearrange(self.image_to_tokens(z_i), "b (k d) -> b k d", k=IMAGE_TOKENS)
        context = torch.cat((image_tokens, context), dim=1)  # (B, 4+T, D)
        mask = F.pad(mask, (IMAGE_TOKENS, 0), value=True)
        seen = [x_t, coordinates(x_t)]
        if self.image_to_picture is not None:
            seen.append(self.image_to_picture(z_i))
        return self.unet(torch.cat(seen, dim=1), embedding, context, mask)

    def image_condition(self, z_i: Tensor, drop: Tensor) -> Tensor:
        """Unit z_i (B, E) → scaled to unit variance, the learned null where `drop` (B,) is True."""
        scaled = z_i * self.config.clip_embedding**0.5
        return torch.where(drop[:, None], self.null_image, scaled)

    def encode_text(self, tokens: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) → context (B, T, D) and its mask (B, T); a dropped caption is the empty one."""
        tokens = torch.where(drop[:, None], empty_captions_like(tokens), tokens)
        if tokens.is_cuda:  # counting the distinct ones costs a GPU more than encoding all
            return self.text_encoder(tokens), tokens != PAD
        # Half of training's captions are dropped; the empty one is encoded once for all of them.
        distinct, row = tokens.unique(dim=0, return_inverse=True)
        return self.text_encoder(distinct)[row], tokens != PAD

    def denoiser(self, z_i: Tensor, tokens: Tensor, scale: float) -> Denoiser:
        """The network with its conditions bound and guidance applied, as the samplers take it.

        Conditions do not change from step to step, so they are encoded once.
        """
        keep = torch.zeros(len(z_i), dtype=torch.bool, device=z_i.device)

        def bind(drop: Tensor) -> Denoiser:
            image, (context, mask) = self.image_condition(z_i, drop), self.encode_text(tokens, drop)
            return lambda x_t, t: self(x_t, t, image, context, mask)

        return guided(bind(keep), bind(~keep), scale, CHANNELS, self.config.guided_above)


def picture_of(config: DecoderConfig) -> nn.Module:
    """z_i (B, E) → (B, laid_out, S, S)."""
    shape = (config.laid_out, config.image_size, config.image_size)
    return nn.Sequential(
        nn.Linear(config.clip_embedding, config.embedding), nn.SiLU(),
        nn.Linear(config.embedding, math.prod(shape)), nn.Unflatten(1, shape),
    )  # fmt: skip


def coordinates(images: Tensor) -> Tensor:
    """x and y in [-1, 1] of every pixel of square pictures, (B, 2, S, S), to be seen beside them: a
    convolution can't tell left from right (Liu et al. 2018, CoordConv)."""
    axis = torch.linspace(-1, 1, images.shape[-1], device=images.device)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy")).expand(len(images), -1, -1, -1)


def noisy_timesteps(n: int, timesteps: int, generator: torch.Generator) -> Tensor:
    """(n,) t in [0, timesteps), each as often as it is late: what goes where is decided while noise
    still hides the picture, and that is the most to learn."""
    share = torch.rand(n, generator=generator).sqrt()
    return (timesteps * share).long().clamp(max=timesteps - 1)


def decoder_loss(
    decoder: Decoder, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Weighted MSE of x0 and the variance's bound, for (images, their z_i, tokens).

    x0 rather than the paper's eps: flat shapes are simpler than their noise. Tried briefly against
    v only, one short run each. Timesteps are not drawn evenly (`noisy_timesteps`).
    """
    images, z_i, tokens = batch
    n, device, diffusion = len(images), images.device, decoder.diffusion
    t = noisy_timesteps(n, len(diffusion.schedule), generator).to(device)
    eps = torch.randn(images.shape, generator=generator).to(device)
    drop_image = drop_mask(n, IMAGE_DROP, generator).to(device)
    drop_caption = drop_mask(n, decoder.caption_drop, generator).to(device)
    x_t = diffusion.add_noise(images, t, eps)
    output = decoder(
        x_t, t, decoder.image_condition(z_i, drop_image), *decoder.encode_text(tokens, drop_caption)
    )
    prediction, fraction = split_variance(output, CHANNELS)
    squared = (prediction - diffusion.target_of(images, t, eps)) ** 2
    mse = (diffusion.x0_weight(t, squared) * squared).mean()
    return mse + variance_loss(diffusion, prediction, fraction, images, x_t, t).mean()
