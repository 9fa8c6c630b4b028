"""A help for the decoder's training: while it learns to draw, it must also say what CLIP sees.

Inside the U-Net, at the resolution of CLIP's patches, a small head reads CLIP's features of the
clean picture from those of the noisy one (representation alignment, Yu et al. 2024). It is no part
of the paper and of no use in drawing: only the decoder is kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.decoder import Decoder, decoder_loss

WEIGHT = 1.0  # of the alignment, beside the decoder's own loss
SIDE = 8  # of the U-Net's level that is read: as many squares as CLIP has patches


class AlignedDecoder(nn.Module):
    """A decoder, and the head that reads CLIP's patches from its way up."""

    def __init__(self, decoder: Decoder, clip_width: int):
        super().__init__()
        self.config = decoder.config
        self.decoder = decoder
        finest = self.config.image_size // self.config.patch
        self.level = (finest // SIDE).bit_length() - 1
        width = self.config.widths[self.level]
        self.head = nn.Sequential(nn.Linear(width, 256), nn.SiLU(), nn.Linear(256, clip_width))

    def forward(self, images: Tensor, z_i: Tensor, tokens: Tensor, generator: torch.Generator):
        """→ the decoder's loss, and the head's answers (B, N, D)."""
        seen = []
        up = self.decoder.unet.up[-1 - self.level][-1]
        hook = up.register_forward_hook(lambda stage, inputs, x: seen.append(x))  # (B, C, 8, 8)
        loss = decoder_loss(self.decoder, (images, z_i, tokens), generator)
        hook.remove()
        return loss, self.head(seen[0].flatten(2).transpose(1, 2))


def aligned_loss(
    model: AlignedDecoder,
    batch: tuple[Tensor, Tensor, Tensor, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """The decoder's loss for (images, their z_i, tokens), and how far the head's answers point away
    from the features of CLIP's patches (B, N, D), the last of the batch."""
    images, z_i, tokens, patches = batch
    loss, answers = model(images, z_i, tokens, generator)
    return loss + WEIGHT * (1 - F.cosine_similarity(answers.float(), patches, dim=-1)).mean()
