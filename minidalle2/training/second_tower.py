"""A second image tower for a trained CLIP, whose text tower stays as it is.

Zhai et al. 2022 (LiT) lock one tower and train the other. They lock the image tower; here the text
tower is locked. The text embeddings are good already, so the new tower needs a fraction of the
steps (docs/emoji.md). The new tower must also see each picture nearly as the first tower does.
Then a prior and a decoder that were trained with the first tower also work with the average.
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import CLIP, contrast

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # images, tokens, their z_t, the first tower's z_i


def with_second_tower(earlier: CLIP, widths: tuple[int, ...]) -> CLIP:
    """A copy of `earlier` with both towers locked, and a second image tower, which is untrained.

    The temperature is trained, too.
    """
    clip = CLIP(replace(earlier.config, style_widths=widths))
    for locked, trained in (
        (clip.text_tower, earlier.text_tower),
        (clip.image_tower.first, earlier.image_tower),
    ):
        locked.load_state_dict(trained.state_dict())
        locked.requires_grad_(False)
    clip.log_scale.data.copy_(earlier.log_scale)
    return clip


def embed(clip: CLIP, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """→ z_i of the second tower alone, z_t, tokens, z_i of the first tower.

    The average of both towers would leave the second one almost nothing to learn.
    """
    images, tokens, z_t, first = batch
    z_i = F.normalize(clip.image_tower.second(images).float(), dim=-1)
    return z_i, z_t, tokens, first


def compare(clip: CLIP, z_i: Tensor, z_t: Tensor, tokens: Tensor, first: Tensor) -> Tensor:
    """CLIP's loss, plus 1 - the mean cosine between z_i and the first tower's z_i."""
    apart = 1 - F.cosine_similarity(z_i, first, dim=-1).mean()
    return contrast(clip, z_i, z_t, tokens) + apart
