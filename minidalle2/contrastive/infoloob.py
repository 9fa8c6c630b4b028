"""InfoLOOB with retrieval, and projections of its own for each direction, after CLOOB.

Fürst et al. 2021: "leave one out bound" leaves the positive out of the denominator; as a formula of
logits it is the decoupled loss. What makes it CLOOB is that embeddings are first replaced by what a
continuous Hopfield network retrieves with them from the batch, so that a pair is compared by what
it has in common with others, and that the temperature is held.

The second pair of projections lets "which text belongs to this picture" and the reverse disagree.
It is used in training alone; the CLIP inside keeps the first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP
from minidalle2.contrastive.decoupled import decoupled
from minidalle2.contrastive.pairs import at_end, cosines, equal_captions

SCALE = 30.0  # of cosines between retrieved embeddings: the paper's inverse temperature
SHARPNESS = 8.0  # of the retrieval; high: each finds itself, low: all find the mean


class TwoDirections(nn.Module):
    """A CLIP, whose own projections find texts of pictures, and another two for the reverse."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        width, embedding = clip.config.width, clip.config.embedding
        self.image_projection = nn.Linear(width, embedding, bias=False)
        self.text_projection = nn.Linear(width, embedding, bias=False)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """→ CLIP's z_i and z_t, then those of the other direction, all (B, E) of unit length."""
        image_tower, text_tower = self.clip.image_tower, self.clip.text_tower
        image = image_tower.features(images)[:, 0]
        text = at_end(text_tower.encoder(tokens), tokens)
        projected = (
            image_tower.projection(image), text_tower.projection(text),
            self.image_projection(image), self.text_projection(text),
        )  # fmt: skip
        return tuple(F.normalize(z.float(), dim=-1) for z in projected)


def retrieved(queries: Tensor, stored: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """(M, E), (N, E) of unit length → (M, E): the mean of what is stored, by likeness to a query,
    back at unit length (Ramsauer et al. 2021)."""
    with torch.autocast(queries.device.type, enabled=False):
        weights = (sharpness * cosines(queries, stored)).softmax(1)
        return F.normalize(weights @ stored.float(), dim=-1)


def infoloob(anchors: Tensor, others: Tensor, same: Tensor, scale: float = SCALE) -> Tensor:
    """(B, E) twice, of unit length → a scalar; divided by the scale, so that gradients have the
    same size whatever it is."""
    return decoupled(scale * cosines(anchors, others), same) / scale


def infoloob_loss(
    model: TwoDirections, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Pictures find texts, both seen through the batch's pictures; texts find pictures, through its
    texts. For a batch of (images (B, 3, H, W), tokens (B, T))."""
    images, tokens = batch
    z_i, z_t, other_i, other_t = model(images, tokens)
    same = equal_captions(tokens)
    to_text = infoloob(retrieved(z_i, z_i), retrieved(z_t, z_i), same)
    to_image = infoloob(retrieved(other_t, other_t), retrieved(other_i, other_t), same)
    return (to_text + to_image) / 2
