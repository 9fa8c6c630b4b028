"""CLOOB (Fürst et al. 2021): the InfoLOOB loss of embeddings that a Hopfield network retrieves.

InfoLOOB ("leave one out bound") leaves the positive pair out of the denominator. For given logits
it is the decoupled loss. CLOOB adds two things. First, a continuous Hopfield network replaces each
embedding by one that it retrieves from the batch, so that a pair is compared by features that also
occur in other pairs. Second, the temperature is constant.

Here each direction of the loss also has projections of its own, so that the two directions need not
have the same embeddings. The second pair of projections is used in training only; the CLIP inside
keeps the first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, at_end, cosines, equal_captions
from minidalle2.training.contrastive.decoupled import decoupled

SCALE = 30.0  # of the cosines of retrieved embeddings: the paper's inverse temperature
SHARPNESS = 8.0  # of the retrieval; if high, each embedding retrieves itself; if low, the mean


class TwoDirections(nn.Module):
    """A CLIP and two more projections.

    CLIP's projections are used to find the text of a picture, the others to find the picture of a
    text.
    """

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        embedding = clip.config.embedding
        self.image_projection = nn.Linear(clip.image_tower.pooled_width, embedding, bias=False)
        self.text_projection = nn.Linear(clip.config.width, embedding, bias=False)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (B, 3, S, S), tokens (B, T) → z_i and z_t of CLIP, z_i and z_t of the other
        direction, all (B, E) of unit length."""
        text_tower = self.clip.text_tower
        image = self.clip.image_tower.features(images)
        text = at_end(text_tower.encoder(tokens), tokens)
        projected = (
            image.embedding,
            text_tower.projection(text),
            self.image_projection(image.pooled),
            self.text_projection(text),
        )
        return tuple(F.normalize(z.float(), dim=-1) for z in projected)


def retrieved(queries: Tensor, stored: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """queries (M, E), stored (N, E), all of unit length → retrieved embeddings (M, E), unit length.

    A retrieved embedding is the mean of the stored ones, weighted by a softmax of their cosines to
    the query (Ramsauer et al. 2021).
    """
    with torch.autocast(queries.device.type, enabled=False):
        weights = (sharpness * cosines(queries, stored)).softmax(1)
        return F.normalize(weights @ stored.float(), dim=-1)


def infoloob(anchors: Tensor, others: Tensor, same: Tensor, scale: float = SCALE) -> Tensor:
    """anchors, others (B, E) of unit length, same (B, B) → scalar.

    The loss is divided by the scale, so that the size of the gradients does not depend on it.
    """
    return decoupled(scale * cosines(anchors, others), same) / scale


def infoloob_loss(
    model: TwoDirections, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of both directions, for a batch of (images (B, 3, S, S), tokens (B, T)).

    From pictures to texts, all embeddings are retrieved from the pictures of the batch. From texts
    to pictures, they are retrieved from the texts.
    """
    images, tokens = batch
    z_i, z_t, other_i, other_t = model(images, tokens)
    same = equal_captions(tokens)
    to_text = infoloob(retrieved(z_i, z_i), retrieved(z_t, z_i), same)
    to_image = infoloob(retrieved(other_t, other_t), retrieved(other_i, other_t), same)
    return (to_text + to_image) / 2
