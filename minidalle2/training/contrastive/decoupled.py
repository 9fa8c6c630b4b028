"""Decoupled contrastive learning (Yeh et al. 2021): InfoNCE with the positive pair removed from the
denominator.

InfoNCE's gradient becomes small as soon as a pair is distinguished from its negatives. In small
batches this happens early. Without the positive pair in the denominator the gradient stays large.
Left out: the weights of the positive pairs in the paper.

The loss can become negative. With scale s of the logits and batches of B pairs, its minimum is
ln(B-1) - s·B/(B-1). A trained s would therefore grow without limit, so s is not trained here.
"""

import torch
from torch import Tensor

from minidalle2.clip import CLIP, cosines, equal_captions


def decoupled(logits: Tensor, same: Tensor) -> Tensor:
    """One direction of the loss: logits (B, B), `same` (B, B) → scalar.

    `same` is True where captions are equal, including the diagonal. Rows without negatives are left
    out. Raises ValueError if no row has a negative.
    """
    contrasted = ~same.all(1)
    if not contrasted.any():
        raise ValueError(
            f"a batch of {len(logits)} pairs with one and the same caption has no negatives; the "
            "decoupled loss needs at least two different captions, so use a larger batch"
        )
    # -infinity, because every finite number could be larger than some logits of a large scale.
    negatives = logits.masked_fill(same, -torch.inf)[contrasted]
    return (negatives.logsumexp(1) - logits.diagonal()[contrasted]).mean()


def decoupled_loss(clip: CLIP, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """The loss of both directions, for a batch of (images (B, 3, S, S), tokens (B, T)).

    CLIP's scale of the logits is used, but gets no gradient.
    """
    images, tokens = batch
    logits = cosines(clip.encode_image(images), clip.encode_text(tokens))
    logits, same = clip.log_scale.detach().exp() * logits, equal_captions(tokens)
    return (decoupled(logits, same) + decoupled(logits.T, same)) / 2
