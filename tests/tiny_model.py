"""Tiny models: with weights in which every input matters, and as a folder of weights; and four
pairs, two with one caption, for losses."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import DALLE2, save_sampling
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.prior import Prior, PriorConfig
from minidalle2.storage.checkpoints import save_model, save_tokenizer
from minidalle2.upsampler import Upsampler, UpsamplerConfig

TEXTS = ["a red circle", "a large green star above a red square", "a blue circle", "a red circle"]
NOTHING_SAME = torch.eye(4).bool()
MODELS = {
    "clip": (CLIPConfig, CLIP),
    "prior": (PriorConfig, Prior),
    "decoder": (DecoderConfig, Decoder),
    "upsampler64": (UpsamplerConfig, Upsampler),
    "upsampler128": (UpsamplerConfig, Upsampler),
}


def save_tiny(dalle2: DALLE2, folder: Path) -> Path:
    for stage in MODELS:
        save_model(folder / stage, stage, getattr(dalle2, stage))
    save_tokenizer(dalle2.tokenizer, folder / "tokenizer.json")
    save_sampling(folder, dalle2.sampling)
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
