"""GLIDE (Nichol et al. 2021): a decoder without an image embedding, the control of section 5.

Tokens (B, T) → (B, 3, 32, 32). unCLIP's decoder is a modification of GLIDE. Here GLIDE has the
decoder's architecture, data and loss. Where z_i enters the decoder, GLIDE has an embedding of the
caption, read at its last token. Its training starts from the weights of a decoder that receives
z_t in place of z_i (figure 8). Without these weights it learned backgrounds, but no shapes in 800
steps. Left out: a GLIDE that is trained from nothing, which would take as long as the decoder.
Letters: B batch, T tokens, D width, E embedding.
"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import TextTower
from minidalle2.dalle2 import DALLE2
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.storage.checkpoints import CheckpointError, load_model
from minidalle2.storage.records import check_inputs


class Glide(Decoder):
    """A decoder that uses an embedding of the caption in place of z_i."""

    caption_drop = 0.2  # Nichol et al. 2021, section 4

    def __init__(self, config: DecoderConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.text_width, config.clip_embedding, bias=False)

    def forward(self, x_t: Tensor, t: Tensor, z_i: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Like the decoder's, but z_i is ignored."""
        last = context[torch.arange(len(context), device=mask.device), mask.sum(1) - 1]  # (B, D)
        caption = F.normalize(self.projection(last).float(), dim=-1)  # (B, E)
        keep = torch.zeros_like(mask[:, 0])
        return super().forward(x_t, t, self.image_condition(caption, keep), context, mask)


class CaptionOnly(Decoder):
    """A decoder that always receives the learned null in place of z_i: first row of figure 8."""

    def image_condition(self, z_i: Tensor, drop: Tensor) -> Tensor:
        return super().image_condition(z_i, torch.ones_like(drop))


def without_embedding(decoder: Decoder) -> CaptionOnly:
    """A copy of the decoder that draws from the caption alone. It is not trained further."""
    caption_only = CaptionOnly(decoder.config).to(next(decoder.parameters()).device)
    caption_only.load_state_dict(decoder.state_dict())
    return caption_only.eval()


def fed_with_text(decoder: Decoder, text_tower: TextTower) -> Glide:
    """A GLIDE with the weights of the decoder and of CLIP's text tower, to train further."""
    glide = Glide(decoder.config).to(next(decoder.parameters()).device)
    text = {f"text_{name}": weight for name, weight in text_tower.state_dict().items()}
    text["projection.weight"] = text.pop("text_projection.weight")
    glide.load_state_dict(decoder.state_dict() | text)
    return glide


def load_glide(folder: Path, dalle2: DALLE2) -> DALLE2:
    """The same model with the GLIDE in `folder` as its decoder.

    The prior still runs, but nothing of z_i reaches a drawing. CLIP may still select among several
    drawings by z_i: `Sampling(drawings=1)` leaves nothing to select. Raises CheckpointError
    without a GLIDE, or if it was trained beside another decoder.
    """
    if not (folder / "glide").is_dir():
        raise CheckpointError(
            f"there is no GLIDE in {folder} to compare with; train it with "
            f"`minidalle2 train glide --out {folder}`"
        )
    check_inputs("glide", folder)
    glide = load_model(folder / "glide", "glide", DecoderConfig, Glide)
    if glide.config != dalle2.decoder.config:
        raise CheckpointError(
            f"{folder / 'glide'} does not fit the decoder beside it: {glide.config}, not "
            f"{dalle2.decoder.config}; train it again beside that decoder"
        )
    return replace(dalle2, decoder=glide.to(dalle2.device))
