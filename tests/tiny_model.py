"""Tiny models: with weights in which every input matters, and as a folder of weights; and four
pairs, two with one caption, for losses."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2
from minidalle2.training.checkpoints import save_model


TEXTS = ["a red circle", "a large green star above a red square", "a blue circle", "a red circle"]
NOTHING_SAME = torch.eye(4).bool()


def save_tiny(dalle2: DALLE2, folder: Path) -> Path:
    for stage in ("clip", "prior", "decoder", "upsampler64", "upsampler128"):
        save_model(folder / stage, stage, getattr(dalle2, stage))
    dalle2.tokenizer.save(folder / "tokenizer.json")
    return folder


def perturbed(model: nn.Module) -> nn.Module:
    """Fresh networks end in zeros and answer nothing; noise on every weight lets inputs matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def trainable(configs) -> CLIP:
    torch.manual_seed(1)
    return CLIP(configs.clip)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(shape), dim=-1)
