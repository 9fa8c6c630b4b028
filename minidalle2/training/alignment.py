"""Representation alignment (Yu et al. 2024), which helps the decoder to train faster.

While the decoder learns to draw, a small head inside the U-Net must predict CLIP's patch features
of the clean picture from the features of the noisy picture. It is not part of the paper, and it is
not needed for drawing: only the decoder is kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.decoder import Decoder, Draws, decoder_draws, decoder_loss_at

WEIGHT = 1.0  # of the alignment, beside the decoder's own loss
SIDE = 8  # places a side of the U-Net level that is read, and CLIP's patches a side


class AlignedDecoder(nn.Module):
    """A decoder, and a head that predicts CLIP's patch features from the U-Net's way up."""

    def __init__(self, decoder: Decoder, clip_width: int):
        super().__init__()
        self.config = decoder.config
        self.decoder = decoder
        finest = self.config.image_size // self.config.patch
        self.level = (finest // SIDE).bit_length() - 1
        width = self.config.widths[self.level]
        self.head = nn.Sequential(nn.Linear(width, 256), nn.SiLU(), nn.Linear(256, clip_width))

    def forward(self, batch: tuple[Tensor, Tensor, Tensor], draws: Draws) -> tuple[Tensor, Tensor]:
        """(images, z_i, tokens) → the decoder's loss, and the head's predictions (B, N, D)."""
        seen = []
        up = self.decoder.unet.up[-1 - self.level][-1]
        hook = up.register_forward_hook(lambda block, inputs, x: seen.append(x))  # (B, C, 8, 8)
        loss = decoder_loss_at(self.decoder, batch, draws)
        hook.remove()
        return loss, self.head(seen[0].flatten(2).transpose(1, 2))


def aligned_draws(model: AlignedDecoder, n: int, generator: torch.Generator) -> Draws:
    return decoder_draws(model.decoder, n, generator)


def aligned_loss(
    model: AlignedDecoder, batch: tuple[Tensor, ...], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (images, their z_i, tokens, CLIP's patch features (B, N, D))."""
    draws = aligned_draws(model, len(batch[0]), generator)
    return aligned_loss_at(model, batch, tuple(draw.to(batch[0].device) for draw in draws))


def aligned_loss_at(model: AlignedDecoder, batch: tuple[Tensor, ...], draws: Draws) -> Tensor:
    """The decoder's loss, plus 1 - the mean cosine between predicted and true patch features."""
    *drawn, patches = batch
    loss, predicted = model(tuple(drawn), draws)
    return loss + WEIGHT * (1 - F.cosine_similarity(predicted.float(), patches, dim=-1)).mean()
