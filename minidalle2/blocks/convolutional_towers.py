"""Convolutional image towers for CLIP: pictures (B, 3, 32, 32) → embeddings (B, E).

Radford et al. 2021 trained residual networks beside vision transformers. The paper uses a
transformer. Where pictures are small or few, convolutions learn faster. `LayoutTower` replaces the
transformer for scenes, where positions matter (docs/speedrun.md). `StyleTower` stands beside the
transformer for single objects drawn in different styles (docs/emoji.md).

Letters: B batch, C channels, E embedding, F pooled features, N patches, D features of a patch.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from minidalle2.blocks.convolutions import Residual, layer
from minidalle2.blocks.validation import require

HIDDEN = 512  # features of the whole picture, before the projection of a LayoutTower


class ImageFeatures(NamedTuple):
    """Everything that an image tower computes from B pictures."""

    embedding: Tensor  # (B, E), not normalised
    pooled: Tensor  # (B, F), the features from which the embedding is projected
    patches: Tensor  # (B, N, D), the features of each patch


class LayoutTower(nn.Module):
    """Convolutions down to 4x4 places, then a layer with its own weights for each place.

    Therefore the embedding contains the position of each object. `widths` are the channels at
    16, 8 and 4 px.
    """

    def __init__(self, widths: tuple[int, ...], embedding: int):
        super().__init__()
        require(len(widths) == 3, f"a layout tower has 3 widths (16, 8, 4 px), not {len(widths)}")
        w16, w8, w4 = widths
        self.pooled_width, self.patch_width = HIDDEN, w8
        self.to8 = nn.Sequential(*layer(3, w16, 2), *layer(w16, w8, 2), Residual(w8))
        self.to4 = nn.Sequential(*layer(w8, w4, 2), Residual(w4), nn.Flatten())
        self.read = nn.Sequential(nn.Linear(16 * w4, HIDDEN), nn.GELU())
        self.projection = nn.Linear(HIDDEN, embedding, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) → (B, E), not normalised."""
        return self.features(images).embedding

    def features(self, images: Tensor) -> ImageFeatures:
        """The patches are the features at 8 px: (B, 64, w8)."""
        x8 = self.to8(images.contiguous(memory_format=torch.channels_last))
        pooled = self.read(self.to4(x8))
        return ImageFeatures(self.projection(pooled), pooled, x8.flatten(2).transpose(1, 2))


class StyleTower(nn.Module):
    """One embedding for the object and one for the style, added together.

    The object is read from the deepest level, averaged over the picture. The style is read from
    the mean and the standard deviation of early features over the picture, as in style transfer
    (Huang & Belongie 2017). `widths` are the channels at 32, 16, 8 and 4 px.
    """

    def __init__(self, widths: tuple[int, ...], embedding: int):
        super().__init__()
        require(len(widths) == 4, f"a style tower has 4 widths (32 to 4 px), not {len(widths)}")
        w32, w16, w8, w4 = widths
        self.to32 = nn.Sequential(*layer(3, w32, 1))
        self.to16 = nn.Sequential(*layer(w32, w16, 2), Residual(w16))
        self.to8 = nn.Sequential(*layer(w16, w8, 2), Residual(w8))
        self.to4 = nn.Sequential(*layer(w8, w4, 2), Residual(w4))
        manner = 2 * (w32 + w16)
        self.thing = nn.Sequential(nn.LayerNorm(w4), nn.Linear(w4, embedding, bias=False))
        self.manner = nn.Sequential(nn.LayerNorm(manner), nn.Linear(manner, embedding, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) → (B, E), not normalised."""
        x32 = self.to32(images.contiguous(memory_format=torch.channels_last))
        x16 = self.to16(x32)
        x4 = self.to4(self.to8(x16))
        manner = torch.cat((mean_and_deviation(x32), mean_and_deviation(x16)), dim=1)
        return self.thing(x4.mean((2, 3))) + self.manner(manner)


def mean_and_deviation(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, 2C)."""
    x = x.float()
    # A constant feature has a variance of 0, at which the square root has no gradient.
    return torch.cat((x.mean((2, 3)), (x.var((2, 3)) + 1e-4).sqrt()), dim=1)
