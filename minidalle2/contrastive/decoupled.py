"""Decoupled contrastive learning (Yeh et al. 2021): InfoNCE without the positive below the line.

InfoNCE's gradient fades as soon as a pair is told apart from its negatives, and in small batches
that is soon. Without the positive in the denominator it does not. Left out: the paper's weights of
positives.

The price is that the loss is no longer at least zero: with the scale s of the logits, a batch of B
can reach ln(B-1) - s·B/(B-1), so a learned s would grow for ever. Here it is held.
"""

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.contrastive.pairs import cosines, equal_captions


def decoupled(logits: Tensor, same: Tensor) -> Tensor:
    """One direction: (B, B) logits and where captions are equal (B, B), the diagonal included.

    A row that has no negative is left out. Raises ValueError where none has any.
    """
    contrasted = ~same.all(1)
    if not contrasted.any():
        raise ValueError(
            f"a batch of {len(logits)} pairs with one and the same caption has no negatives; "
            "a decoupled loss needs two different captions, so take a larger batch"
        )
    # Infinity, for any number would be beaten by a large scale: -100 + 200 is more than nothing.
    negatives = logits.masked_fill(same, -torch.inf)[contrasted]
    return (negatives.logsumexp(1) - logits.diagonal()[contrasted]).mean()


def decoupled_loss(clip: CLIP, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """Both directions, for a batch of (images (B, 3, H, W), tokens (B, T)). The scale that CLIP
    came with is used, and gets no gradient."""
    images, tokens = batch
    logits = cosines(clip.encode_image(images), clip.encode_text(tokens))
    logits, same = clip.log_scale.detach().exp() * logits, equal_captions(tokens)
    return (decoupled(logits, same) + decoupled(logits.T, same)) / 2
