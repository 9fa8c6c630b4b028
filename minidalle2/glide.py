"""The decoder's twin that never sees an image embedding: GLIDE, the control of section 5.

Tokens (B, T) → (B, 3, 32, 32). Nichol et al. 2021, of which unCLIP's decoder is a modification. The
twin has the decoder's architecture, data and loss, and the place where z_i went in has the caption
as a whole, read off its last token, as in GLIDE. Its training goes on where the decoder's ended, as
the decoder fed z_t in the place of z_i (figure 8), and from there on captions are all that it sees.
With nothing in that place it learned backgrounds from captions, but in 800 steps no shapes.
Left out: a twin that never saw a z_i from the start, which would take as long as the decoder.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import TextTower
from minidalle2.dalle2 import DALLE2
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.training.checkpoints import CheckpointError, load_model


class Glide(Decoder):
    """A decoder that reads the caption in the place of z_i, too, in training and in drawing."""

    caption_drop = 0.2  # Nichol et al. 2021, section 4

    def __init__(self, config: DecoderConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.text_width, config.clip_embedding, bias=False)

    def forward(self, x_t: Tensor, t: Tensor, z_i: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """As the decoder's; z_i may be anything."""
        last = context[torch.arange(len(context), device=mask.device), mask.sum(1) - 1]  # (B, D)
        caption = F.normalize(self.projection(last).float(), dim=-1)  # (B, E)
        keep = torch.zeros_like(mask[:, 0])
        return super().forward(x_t, t, self.image_condition(caption, keep), context, mask)


class CaptionOnly(Decoder):
    """A decoder in whose z_i's place the learned null always stands: figure 8's first row."""

    def image_condition(self, z_i: Tensor, drop: Tensor) -> Tensor:
        return super().image_condition(z_i, torch.ones_like(drop))


def without_embedding(decoder: Decoder) -> CaptionOnly:
    """The decoder's own weights, drawing from the caption alone; no training made it a twin."""
    caption_only = CaptionOnly(decoder.config).to(next(decoder.parameters()).device)
    caption_only.load_state_dict(decoder.state_dict())
    return caption_only.eval()


def fed_with_text(decoder: Decoder, text_tower: TextTower) -> Glide:
    """The decoder that takes z_t for z_i, with which the twin's training begins."""
    glide = Glide(decoder.config).to(next(decoder.parameters()).device)
    text = {f"text_{name}": weight for name, weight in text_tower.state_dict().items()}
    text["projection.weight"] = text.pop("text_projection.weight")
    glide.load_state_dict(decoder.state_dict() | text)
    return glide


def with_decoder(dalle2: DALLE2, decoder: Decoder) -> DALLE2:
    """The same machine with another decoder.

    With a `Glide` the prior still runs, but nothing of z_i reaches the picture unless CLIP chooses
    among several drawings by it: `Sampling(drawings=1)` leaves nothing to choose.
    """
    return DALLE2(
        dalle2.tokenizer, dalle2.clip, dalle2.prior, decoder, dalle2.upsampler64,
        dalle2.upsampler128,
    )  # fmt: skip


def load_twin(folder: Path, dalle2: DALLE2) -> DALLE2:
    """The machine with the twin that was trained in `folder`. Raises CheckpointError without one,
    or for one of another training."""
    if not (folder / "glide").is_dir():
        raise CheckpointError(
            f"there is no GLIDE twin in {folder} to compare with; train it with "
            f"`minidalle2 train glide --out {folder}`"
        )
    glide = load_model(folder / "glide", "glide", DecoderConfig, Glide)
    if glide.config != dalle2.decoder.config:
        raise CheckpointError(
            f"{folder / 'glide'} is no twin of the decoder beside it: {glide.config}, not "
            f"{dalle2.decoder.config}; train it again beside that decoder"
        )
    return with_decoder(dalle2, glide.to(dalle2.device))
