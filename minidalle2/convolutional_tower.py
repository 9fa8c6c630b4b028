"""Image towers for CLIP of convolutions: (B, 3, 32, 32) → (B, E).

Radford et al. 2021 trained residual networks beside vision transformers; the paper takes a
transformer. Where pictures are small or few, convolutions learn in half the steps and less: one
tower for scenes, where it matters what is where (docs/speedrun.md), and one for single things in
different hands, a second one beside the transformer (docs/emoji.md).
"""

import torch
from torch import Tensor, nn

from minidalle2.blocks.convolutions import Residual, layer


READ = 512  # features of the whole picture, before the embedding


class PlacedTower(nn.Module):
    """Each of 4 x 4 places is read with weights of its own, so z_i holds what stands where.

    `widths`: channels at 16, 8 and 4 px.
    """

    def __init__(self, widths: tuple[int, ...], embedding: int):
        super().__init__()
        w16, w8, w4 = widths
        self.to8 = nn.Sequential(*layer(3, w16, 2), *layer(w16, w8, 2), Residual(w8))
        self.to4 = nn.Sequential(*layer(w8, w4, 2), Residual(w4), nn.Flatten())
        self.read = nn.Sequential(nn.Linear(16 * w4, READ), nn.GELU())
        self.projection = nn.Linear(READ, embedding, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """→ (B, E), not normalised."""
        return self.with_patches(images)[0]

    def with_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """→ the embedding (B, E), not normalised, and the features at 8 px (B, 64, w8)."""
        x8 = self.to8(images.contiguous(memory_format=torch.channels_last))
        return self.projection(self.read(self.to4(x8))), x8.flatten(2).transpose(1, 2)


class ConvolutionalTower(nn.Module):
    """What is drawn is read at the deepest level, averaged. In whose manner is read off strokes and
    textures, the mean and the deviation of each early feature over the picture, as style is where
    one picture is given another's (Huang & Belongie 2017).

    `widths`: channels at 32, 16, 8 and 4 px.
    """

    def __init__(self, widths: tuple[int, ...], embedding: int):
        super().__init__()
        w32, w16, w8, w4 = widths
        self.to32 = nn.Sequential(*layer(3, w32, 1))
        self.to16 = nn.Sequential(*layer(w32, w16, 2), Residual(w16))
        self.to8 = nn.Sequential(*layer(w16, w8, 2), Residual(w8))
        self.to4 = nn.Sequential(*layer(w8, w4, 2), Residual(w4))
        manner = 2 * (w32 + w16)
        self.thing = nn.Sequential(nn.LayerNorm(w4), nn.Linear(w4, embedding, bias=False))
        self.manner = nn.Sequential(nn.LayerNorm(manner), nn.Linear(manner, embedding, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        """→ (B, E), not normalised."""
        x32 = self.to32(images.contiguous(memory_format=torch.channels_last))
        x16 = self.to16(x32)
        x4 = self.to4(self.to8(x16))
        manner = torch.cat((mean_and_deviation(x32), mean_and_deviation(x16)), dim=1)
        return self.thing(x4.mean((2, 3))) + self.manner(manner)


def mean_and_deviation(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, 2C)."""
    x = x.float()
    # the constant: a feature that is the same all over has no gradient of its deviation
    return torch.cat((x.mean((2, 3)), (x.var((2, 3)) + 1e-4).sqrt()), dim=1)
