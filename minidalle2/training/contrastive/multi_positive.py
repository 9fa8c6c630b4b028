"""InfoNCE with several positive pairs: pairs with equal captions are positive pairs of each other.

If a batch has the caption "a red circle" twice, each text belongs to both pictures. clip.info_nce
ignores such pairs. Here they are positive (as in UniCL, Yang et al. 2022): the target of a row is
divided equally among all columns with the same caption. The minimum of the loss is then not 0. It
is the mean of log(count), where count says how often the caption of a row occurs in the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import CLIP, clamped_scale, cosines, equal_captions


def multi_positive(logits: Tensor, same: Tensor) -> Tensor:
    """logits (B, B), same (B, B) → scalar, the mean of both directions.

    `same` is True where captions are equal, including the diagonal.
    """
    target = same / same.sum(1, keepdim=True)  # also for the columns, because `same` is symmetric
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def multi_positive_loss(
    clip: CLIP, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (images (B, 3, S, S), tokens (B, T))."""
    images, tokens = batch
    logits = cosines(clip.encode_image(images), clip.encode_text(tokens))
    return multi_positive(clamped_scale(clip.log_scale) * logits, equal_captions(tokens))
