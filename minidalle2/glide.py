"""The decoder's twin that never sees an image embedding: GLIDE, the control of section 5.

Tokens (B, T) → (B, 3, 32, 32). Nichol et al. 2021, of which unCLIP's decoder is a modification. The
twin has the decoder's architecture, data and loss. Its training goes on where the decoder's ended,
with z_i dropped always instead of in a tenth of the pictures: it has had the decoder's training and
more, so what it can't do is not for want of steps. What the twin can't do, z_i does.
Left out: GLIDE's own rate of dropped captions, 20 % instead of the decoder's 50 %, and a twin that
never saw a z_i from the start, which would take as long as the decoder.
"""

from pathlib import Path

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.training.checkpoints import CheckpointError, load_model


class Glide(Decoder):
    """A decoder in whose z_i's place the learned null always stands, in training and in drawing."""

    def image_condition(self, z_i: Tensor, drop: Tensor) -> Tensor:
        return super().image_condition(z_i, torch.ones_like(drop))


def without_embedding(decoder: Decoder) -> Glide:
    """The decoder's own weights, drawing from the caption alone; no training made it a twin."""
    glide = Glide(decoder.config).to(next(decoder.parameters()).device)
    glide.load_state_dict(decoder.state_dict())
    return glide.eval()


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
