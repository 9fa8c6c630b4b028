"""The diffusion upsamplers: 32 → 64 px and 64 → 128 px (the paper's 64 → 256 → 1024).

Low-resolution picture (B, 3, S, S) → high-resolution picture (B, 3, 2S, 2S). Paper: section 2.1
and table 3. The upsamplers do not read the text and consist of convolutions only. Therefore they
are trained on crops of a quarter of the size and applied to whole pictures. In training, the low
picture is degraded (training/degradation.py), because drawn pictures have flaws, too. A crop
does not show the colours and the contrast of the whole picture. Therefore the network predicts
only the detail, which is added to the enlarged low picture.
Letters: B batch, S pixels a side.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TimeEmbedding
from minidalle2.blocks.unet import UNet, UNetConfig
from minidalle2.blocks.validation import require, require_positive
from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule, cosine_betas, linear_betas

CHANNELS = 3
SCHEDULES = {"cosine": cosine_betas, "linear": linear_betas}


@dataclass
class UpsamplerConfig:
    size: int = 64  # 2S, pixels a side of the high picture
    schedule: str = "cosine"  # table 3: cosine for the first upsampler, linear for the second
    widths: tuple[int, ...] = (32, 48)
    blocks: tuple[int, ...] = (1, 1)
    embedding: int = 64  # width of the timestep embedding
    timesteps: int = 1000

    def __post_init__(self):
        require_positive(self, "size embedding")
        require(
            self.schedule in SCHEDULES,
            f"unknown schedule {self.schedule!r}; the schedules are {', '.join(SCHEDULES)}",
        )
        require(self.timesteps >= 2, f"a diffusion needs 2 timesteps or more, not {self.timesteps}")
        SCHEDULES[self.schedule](self.timesteps)  # raises ValueError if it has too few steps
        self.unet.check_size(self.size)

    @property
    def unet(self) -> UNetConfig:
        """Noisy picture and enlarged low picture → x0."""
        return UNetConfig(
            channels_in=2 * CHANNELS,
            channels_out=CHANNELS,
            widths=self.widths,
            blocks=self.blocks,
            attention=(False,) * len(self.widths),
            patch=2,
            embedding=self.embedding,
        )


class Upsampler(nn.Module):
    """(x_t, t, low) → x0 (B, 3, 2S, 2S). S may be any size that the U-Net can halve evenly."""

    def __init__(self, config: UpsamplerConfig):
        super().__init__()
        self.config = config
        self.diffusion = Diffusion(Schedule(SCHEDULES[config.schedule](config.timesteps)), "x0")
        self.time_embedding = TimeEmbedding(config.embedding)
        self.unet = UNet(config.unet)

    def forward(self, x_t: Tensor, t: Tensor, low: Tensor) -> Tensor:
        """x_t (B, 3, 2S, 2S), t (B,), low (B, 3, S, S) → (B, 3, 2S, 2S)."""
        enlarged = F.interpolate(low, scale_factor=2, mode="bicubic").clamp(-1, 1)
        detail = self.unet(torch.cat((x_t, enlarged), dim=1), self.time_embedding(t))
        return enlarged + detail

    def denoiser(self, low: Tensor) -> Denoiser:
        """The network with its condition bound, as the samplers take it."""
        return lambda x_t, t: self(x_t, t, low)


def upsampler_draws(
    upsampler: Upsampler, shape: tuple[int, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The random numbers of one training step on crops of `shape` (n, 3, H, W): t (n,) and eps."""
    t = torch.randint(len(upsampler.diffusion.schedule), shape[:1], generator=generator)
    return t, torch.randn(shape, generator=generator)


def upsampler_loss(
    upsampler: Upsampler, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (high crops, their degraded low crops) with fresh random numbers."""
    draws = upsampler_draws(upsampler, batch[0].shape, generator)
    return upsampler_loss_at(upsampler, batch, tuple(draw.to(batch[0].device) for draw in draws))


def upsampler_loss_at(
    upsampler: Upsampler, batch: tuple[Tensor, Tensor], draws: tuple[Tensor, Tensor]
) -> Tensor:
    """The weighted MSE of x0, for given random numbers (`upsampler_draws`)."""
    (high, low), (t, eps) = batch, draws
    x_t = upsampler.diffusion.add_noise(high, t, eps)
    squared = (upsampler(x_t, t, low) - upsampler.diffusion.target_of(high, t, eps)) ** 2
    return (upsampler.diffusion.x0_weight(t, squared) * squared).mean()
