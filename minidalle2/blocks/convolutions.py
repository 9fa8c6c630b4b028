"""Convolutional layers for pictures. CLIP's convolutional towers and the judges are built of them.

The networks share this code, but no weights.
"""

from torch import Tensor, nn

from minidalle2.blocks.validation import require


def layer(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    """A 3x3 convolution, group norm (8 groups) and GELU. Stride 2 halves the picture's sides."""
    require(channels_out % 8 == 0, f"{channels_out} channels are not a multiple of 8")
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
    return [convolution, nn.GroupNorm(8, channels_out), nn.GELU()]


class Residual(nn.Module):
    """(B, C, H, W) → same: two convolutions with a residual connection (He et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(*layer(channels, channels, 1), *layer(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
