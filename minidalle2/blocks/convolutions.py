"""What convolutional networks for pictures are made of: CLIP's other image tower, and the judges.

They share no weights, only these lines.
"""

from torch import Tensor, nn


def layer(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
    return [convolution, nn.GroupNorm(8, channels_out), nn.GELU()]


class Residual(nn.Module):
    """Two convolutions beside a way around them (He et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(*layer(channels, channels, 1), *layer(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
