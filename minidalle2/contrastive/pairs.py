"""What the losses between pictures and texts share: their cosines, and which pairs are negatives.

Letters: B pairs in a batch, T tokens, D width, E embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import MAX_LOG_SCALE
from minidalle2.tokenizer import END


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(..., M, E), (..., N, E), both of unit length → (..., M, N), in float32 even under autocast:
    bfloat16 would round a cosine to 1/256, and a temperature makes a hundred times that of it."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().transpose(-1, -2)


def at_end(features: Tensor, tokens: Tensor) -> Tensor:
    """(B, T, D), (B, T) → (B, D): where CLIP reads a text, its first end token."""
    end = (tokens == END).int().argmax(1)
    return features[torch.arange(len(tokens), device=tokens.device), end]


def equal_captions(tokens: Tensor) -> Tensor:
    """(B, T) → (B, B): True where two rows have equal captions, the diagonal included."""
    return (tokens[:, None] == tokens).all(-1)


def clamped_scale(log_scale: Tensor) -> Tensor:
    """The scale of logits, at most 100. The parameter is clamped, not its use: a clamped use would
    have no gradient back."""
    with torch.no_grad():
        log_scale.clamp_(max=MAX_LOG_SCALE)
    return log_scale.exp()


def matching(logits: Tensor, same: Tensor) -> Tensor:
    """One direction of InfoNCE: row k of (B, B) must find column k.

    `same` is True where captions are equal: such a pair is no negative. The two directions may have
    logits of their own; where they are each other's transpose, their mean is clip.info_nce.
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(same & ~own, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
