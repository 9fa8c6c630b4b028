"""A second image tower for a CLIP that is trained, against its text tower, which stays as it is.

Zhai et al. 2022 (LiT) lock one tower of the two and train the other: there the texts', here the
images'. Texts that are sorted already are learned in a fraction of the steps (docs/emoji.md). The
new tower must also see each picture nearly as the first one does: so their average is of use to a
prior and a decoder that were trained with the first alone.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import CLIP, contrast
from minidalle2.training.accumulation import contrasted
from minidalle2.training.distributed import gather
from minidalle2.training.loop import Loss

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def with_second_tower(earlier: CLIP, widths: tuple[int, ...]) -> CLIP:
    """All of it, locked but for the temperature, and a second image tower that knows nothing."""
    clip = CLIP(replace(earlier.config, image_widths=widths))
    for locked, known in (
        (clip.text_tower, earlier.text_tower),
        (clip.image_tower.first, earlier.image_tower),
    ):
        locked.load_state_dict(known.state_dict())
        locked.requires_grad_(False)
    clip.log_scale.data.copy_(earlier.log_scale)
    return clip


def locked_loss(clip: CLIP, batch: Batch, generator: torch.Generator) -> Tensor:
    """Of (images, tokens, their z_t (B, E), what the first tower makes of the images (B, E))."""
    return locked_loss_of_all()(clip, batch, generator)


def locked_loss_of_all(parts: int = 1) -> Loss:
    """The same over all processes, in so many parts."""
    return contrasted(_embed, _compare, parts)


def _embed(clip: CLIP, batch: Batch) -> tuple[Tensor]:
    """By the second tower alone: together with the first it would have nothing left to learn."""
    return (F.normalize(clip.image_tower.second(batch[0]).float(), dim=-1),)


def _compare(clip: CLIP, batch: Batch, z_i: Tensor) -> Tensor:
    """CLIP's loss, and how far z_i points away from the first tower's."""
    _, tokens, z_t, first = batch
    apart = 1 - F.cosine_similarity(z_i, first, dim=-1).mean()
    return contrast(clip, gather(z_i), gather(z_t), gather(tokens)) + apart
