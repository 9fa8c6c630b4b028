"""What the priors and decoders of all are given: the committed CLIP's view of the shapes world."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import WEIGHTS
from minidalle2.storage.checkpoints import load_model, load_tokenizer
from minidalle2.tokenizer import PAD, Tokenizer
from minidalle2.training.precision import half_precision

FOLDER = WEIGHTS / "shapes"


@dataclass
class Frozen:
    """The committed tokenizer and CLIP; they don't train."""

    tokenizer: Tokenizer
    clip: CLIP

    @classmethod
    def load(cls) -> "Frozen":
        clip = load_model(FOLDER / "clip", "clip", CLIPConfig, CLIP)
        return cls(load_tokenizer(FOLDER / "tokenizer.json"), clip.requires_grad_(False))

    @torch.no_grad()
    def see(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) → z_i (B, E)."""
        with half_precision(images.device):
            return self.clip.encode_image(images)

    @torch.no_grad()
    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) → z_t (B, E), and a feature a token (B, T, D), zero at pads."""
        with half_precision(tokens.device):
            features = self.clip.text_tower.encoder(tokens).float()
            z_t = self.clip.encode_text(tokens)
        return z_t, features * (tokens != PAD)[..., None]
