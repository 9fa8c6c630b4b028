"""Self-supervision: losses without captions. Two views of a picture must have similar features.

SimCLR (Chen et al. 2020) uses the views of other pictures as negatives. SimSiam (Chen & He 2021)
has no negatives. It does not collapse, because one view is predicted from the other, and the
predicted one gets no gradient. Either loss added to CLIP's loss is SLIP (Mu et al. 2021). The views
come from training/augmentation.py, which keeps colours and directions, because captions name them.

The heads read the image tower's pooled features and are dropped after training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, clip_loss, cosines
from minidalle2.training.augmentation import varied

WEIGHT = 1.0  # of the loss of the pictures; CLIP's loss has weight 1
TEMPERATURE = 0.1
HIDDEN, PROJECTED = 256, 128  # widths of the heads


def two_views(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, S, S) in [-1, 1] → two views of each, both (B, 3, S, S)."""
    here = images.cpu()  # the device of the generator
    return tuple(varied(here, generator).to(images.device) for _ in range(2))


# SimCLR


class SimCLR(nn.Module):
    """A CLIP and a head on the pooled features of its image tower."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        self.projector = nn.Sequential(
            nn.Linear(clip.image_tower.pooled_width, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, PROJECTED),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) → projections (B, P), not normalised."""
        return self.projector(self.clip.image_tower.features(images).pooled)


def nt_xent(a: Tensor, b: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Projections of two views (B, P), (B, P) of the same pictures → scalar.

    Each of the 2B views must find the other view of its picture among the other 2B - 1 views. The
    lengths of the projections have no influence.
    """
    views = F.normalize(torch.cat((a, b)).float(), dim=-1)
    logits = cosines(views, views) / temperature
    logits = logits.masked_fill(
        torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf
    )
    other = torch.arange(len(views), device=views.device).roll(len(a))
    return F.cross_entropy(logits, other)


def simclr_loss(model: SimCLR, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """CLIP's loss plus SimCLR's loss, for (images (B, 3, S, S), tokens (B, T))."""
    a, b = (model(view) for view in two_views(batch[0], generator))
    return clip_loss(model.clip, batch, generator) + WEIGHT * nt_xent(a, b)


# SimSiam


class SimSiam(nn.Module):
    """A CLIP, a projector of its pooled image features, and a predictor of the other projection.

    The batch norms always use the statistics of the batch, because both heads are used in training
    only.
    """

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        self.projector = nn.Sequential(
            *_normed(clip.image_tower.pooled_width, HIDDEN), nn.SiLU(), *_normed(HIDDEN, PROJECTED)
        )
        self.predictor = nn.Sequential(
            *_normed(PROJECTED, PROJECTED // 4),  # narrow, as in the paper
            nn.SiLU(),
            nn.Linear(PROJECTED // 4, PROJECTED),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) → projections and predictions (B, P). Raises ValueError if B < 2."""
        if len(images) < 2:
            raise ValueError(
                "SimSiam normalises features by the mean of their batch, so 1 picture teaches it "
                "nothing; take a batch of 2 or more"
            )
        projected = self.projector(self.clip.image_tower.features(images).pooled)
        return projected, self.predictor(projected)


def _normed(width_in: int, width_out: int) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Linear(width_in, width_out, bias=False),
        nn.BatchNorm1d(width_out, track_running_stats=False),
    )


def towards(predicted: Tensor, target: Tensor) -> Tensor:
    """predicted, target (B, P) → the negative mean cosine, in [-1, 1].

    The target gets no gradient.
    """
    return -F.cosine_similarity(predicted.float(), target.detach().float(), dim=-1).mean()


def simsiam_loss(
    model: SimSiam, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """CLIP's loss plus SimSiam's loss, for (images (B, 3, S, S), tokens (B, T))."""
    (a, predicted_b), (b, predicted_a) = (model(view) for view in two_views(batch[0], generator))
    views = (towards(predicted_b, b) + towards(predicted_a, a)) / 2
    return clip_loss(model.clip, batch, generator) + WEIGHT * views
