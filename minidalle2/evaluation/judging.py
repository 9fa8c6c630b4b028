"""What the judges of all worlds share: convolutional layers, and the size of the pictures.

A judge is a network that reads the attributes of a picture, so that a drawing can be compared with
its prompt. It shares no weights with the networks that it judges.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.convolutions import layer
from minidalle2.dalle2 import WEIGHTS
from minidalle2.storage.checkpoints import load_model
from minidalle2.training.world import JudgeKind

READ = 128  # number of features that `reader` computes


def judge_beside(kind: JudgeKind, world: str, folder: Path, device: torch.device) -> nn.Module:
    """Returns the judge in `folder`/judge, or else the judge that comes with minidalle2."""
    place = folder / "judge" if (folder / "judge").is_dir() else WEIGHTS / world / "judge"
    judge = load_model(place, "judge", kind.config, kind.model)
    return judge.to(device, memory_format=torch.channels_last)


def reader(width: int) -> nn.Sequential:
    """(B, 3, 64, 64) → (B, READ).

    The features keep positions apart, because the last feature map is flattened, not averaged. The
    layers have `width` channels at 32 px and 2 · `width` channels at smaller sizes.
    """
    w = width
    return nn.Sequential(
        nn.PixelUnshuffle(2),  # (B, 12, 32, 32)
        *layer(12, w, 1),
        *layer(w, w, 1),
        *layer(w, 2 * w, 2),
        *layer(2 * w, 2 * w, 1),  # (B, 2w, 16, 16)
        *layer(2 * w, 2 * w, 2),
        *layer(2 * w, 2 * w, 1),  # (B, 2w, 8, 8)
        *layer(2 * w, 2 * w, 2),  # (B, 2w, 4, 4)
        nn.Flatten(),
        nn.Linear(2 * w * 16, READ),
        nn.LayerNorm(READ),
        nn.GELU(),
    )


def sized(images: Tensor, size: int) -> Tensor:
    """(B, 3, S, S) → (B, 3, size, size). S is a multiple of `size`, or smaller than `size`."""
    if images.shape[-1] > size:
        return F.avg_pool2d(images, images.shape[-1] // size)
    return F.interpolate(images, size=size, mode="bilinear") if images.shape[-1] < size else images
