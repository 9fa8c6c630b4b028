"""Tiny models: with weights in which every input matters, and as a folder of weights."""

from pathlib import Path

import torch
from torch import nn

from minidalle2.dalle2 import DALLE2
from minidalle2.training.checkpoints import save_model


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
