"""32 → 64 px and 64 → 128 px: diffusion upsamplers, the paper's 64 → 256 → 1024 in small.

Low picture (B, 3, S, S) → high picture (B, 3, 2S, 2S). Paper: section 2.1 and table 3:
unconditional on text, convolutions only, hence trained on quarter-size crops and run at full size.
The low picture is degraded in training (`degradation.py`), so that the flaws of drawn pictures are
nothing new. What a crop is too small to tell, colours and contrast of the whole, comes from the low
picture itself: the network adds detail to it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TimeEmbedding
from minidalle2.blocks.unet import UNet, UNetConfig
from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule, cosine_betas, linear_betas

CHANNELS = 3
SCHEDULES = {"cosine": cosine_betas, "linear": linear_betas}


@dataclass
class UpsamplerConfig:
    size: int = 64  # pixels of the high picture
    schedule: str = "cosine"  # table 3: cosine for the first upsampler, linear for the second
    widths: tuple[int, ...] = (32, 48)
    blocks: tuple[int, ...] = (1, 1)
    embedding: int = 64
    timesteps: int = 1000


class Upsampler(nn.Module):
    """(x_t, t, low) → x0: (B, 3, 2S, 2S), for any S that is a multiple of 4."""

    def __init__(self, config: UpsamplerConfig):
        super().__init__()
        if config.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {config.schedule!r}; known: {', '.join(SCHEDULES)}")
        self.config = config
        self.diffusion = Diffusion(Schedule(SCHEDULES[config.schedule](config.timesteps)), "x0")
        self.time_embedding = TimeEmbedding(config.embedding)
        self.unet = UNet(
            UNetConfig(
                2 * CHANNELS, CHANNELS, config.widths, config.blocks,
                attention=(False,) * len(config.widths), patch=2, embedding=config.embedding,
            )
        )  # fmt: skip

    def forward(self, x_t: Tensor, t: Tensor, low: Tensor) -> Tensor:
        enlarged = F.interpolate(low, scale_factor=2, mode="bicubic").clamp(-1, 1)
        detail = self.unet(torch.cat((x_t, enlarged), dim=1), self.time_embedding(t))
        return enlarged + detail

    def denoiser(self, low: Tensor) -> Denoiser:
        """The network with its condition bound, as the samplers take it."""
        return lambda x_t, t: self(x_t, t, low)


def upsampler_loss(
    upsampler: Upsampler, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Weighted MSE of x0 for (high crops, their degraded low crops)."""
    high, low = batch
    n, device, diffusion = len(high), high.device, upsampler.diffusion
    t = torch.randint(len(diffusion.schedule), (n,), generator=generator).to(device)
    eps = torch.randn(high.shape, generator=generator).to(device)
    x_t = diffusion.add_noise(high, t, eps)
    squared = (upsampler(x_t, t, low) - diffusion.target_of(high, t, eps)) ** 2
    return (diffusion.x0_weight(t, squared) * squared).mean()
