"""What the judges of all worlds share: where they are, how they are loaded, what they are made of.

A judge reads a picture back, so that what was drawn can be compared with what was asked for. Each
world's evaluation/WORLD/judge.py has `JudgeConfig`, `Judge`, `judge_data` and `judge_loss`.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.convolutions import layer
from minidalle2.dalle2 import WEIGHTS
from minidalle2.training.checkpoints import load_model

READ = 128  # features that `reader` gives
JUDGED = ("shapes", "emoji", "critters")  # worlds


def judge_of(world: str) -> ModuleType:
    """The module of a world's judge. Raises ValueError for a world that has none."""
    check_judged(world)
    return import_module(f"minidalle2.evaluation.{world}.judge")


def report_of(world: str) -> ModuleType:
    """The module of a world's report: WHAT, evaluate. Raises ValueError as `judge_of`."""
    check_judged(world)
    return import_module(f"minidalle2.evaluation.{world}.report")


def check_judged(world: str) -> None:
    if world not in JUDGED:
        raise ValueError(
            f"there is no judge for the world {world}, so its drawings can't be evaluated; "
            f"--world {' and --world '.join(JUDGED)} would work"
        )


def load_judge(world: str, folder: Path, device: torch.device) -> nn.Module:
    """The judge beside the weights if one was trained there, else the committed one."""
    place = folder / "judge" if (folder / "judge").is_dir() else WEIGHTS / world / "judge"
    module = judge_of(world)
    judge = load_model(place, "judge", module.JudgeConfig, module.Judge)
    return judge.to(device, memory_format=torch.channels_last)


def reader(width: int) -> nn.Sequential:
    """(B, 3, 64, 64) → (B, READ), which keeps places apart; `width` channels at 32 px, twice as
    many further down."""
    w = width
    return nn.Sequential(
        nn.PixelUnshuffle(2),  # (B, 12, 32, 32)
        *layer(12, w, 1), *layer(w, w, 1),
        *layer(w, 2 * w, 2), *layer(2 * w, 2 * w, 1),  # (B, 2w, 16, 16)
        *layer(2 * w, 2 * w, 2), *layer(2 * w, 2 * w, 1),  # (B, 2w, 8, 8)
        *layer(2 * w, 2 * w, 2),  # (B, 2w, 4, 4)
        nn.Flatten(),
        nn.Linear(2 * w * 16, READ), nn.LayerNorm(READ), nn.GELU(),
    )  # fmt: skip


def sized(images: Tensor, size: int) -> Tensor:
    """(B, 3, S, S), S a multiple of `size` or less → (B, 3, size, size)."""
    if images.shape[-1] > size:
        return F.avg_pool2d(images, images.shape[-1] // size)
    return F.interpolate(images, size=size, mode="bilinear") if images.shape[-1] < size else images
