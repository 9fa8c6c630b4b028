"""Equal captions as positives of each other: a soft target instead of a mask.

In a batch with the caption "a red circle" twice, each text belongs to both pictures. clip.info_nce
leaves such pairs out: they neither attract nor repel. Here they attract (as in UniCL, Yang et al.
2022): the target of a row is shared out evenly among all columns with its caption. The lowest loss
is then no longer zero, but the mean of the logarithms of how often each caption occurs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.contrastive.pairs import clamped_scale, cosines, equal_captions


def multi_positive(logits: Tensor, same: Tensor) -> Tensor:
    """(B, B) logits and where captions are equal (B, B), the diagonal included → a scalar, the mean
    of both directions."""
    target = same / same.sum(1, keepdim=True)  # of columns, too: equality is mutual
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def multi_positive_loss(
    clip: CLIP, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """For a batch of (images (B, 3, H, W), tokens (B, T))."""
    images, tokens = batch
    logits = cosines(clip.encode_image(images), clip.encode_text(tokens))
    return multi_positive(clamped_scale(clip.log_scale) * logits, equal_captions(tokens))
