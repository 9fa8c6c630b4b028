"""What pictures teach without their captions: two views of one picture shall be alike.

SimCLR (Chen et al. 2020) has the views of other pictures as negatives; SimSiam (Chen & He 2021) has
none, and does not collapse because one side predicts the other, which gets no gradient. Either
beside CLIP's own loss is SLIP (Mu et al. 2021). Views are those of worlds/variation.py: they leave
colours and directions, of which captions speak.

The heads read the class token before its projection, and are thrown away after training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, clip_loss
from minidalle2.contrastive.pairs import cosines
from minidalle2.worlds.variation import varied

WEIGHT = 1.0  # of the pictures' loss, beside CLIP's own
TEMPERATURE = 0.1
HIDDEN, PROJECTED = 256, 128  # widths of the heads


def two_views(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S) in [-1, 1] → two of the same, each picture varied on its own."""
    here = images.cpu()  # where the generator is
    return tuple(varied(here, generator).to(images.device) for _ in range(2))


# SimCLR


class SimCLR(nn.Module):
    """A CLIP and the head that reads its class token."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        self.projector = nn.Sequential(
            nn.Linear(clip.config.width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, PROJECTED)
        )

    def forward(self, images: Tensor) -> Tensor:
        """→ (B, P), one vector a picture, not normalised."""
        return self.projector(self.clip.image_tower.features(images)[:, 0])


def nt_xent(a: Tensor, b: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Views (B, P) and (B, P) of the same pictures → a scalar: each of the 2B must find its other
    view among the 2B - 1 that it is not. Lengths don't matter."""
    views = F.normalize(torch.cat((a, b)).float(), dim=-1)
    logits = cosines(views, views) / temperature
    logits = logits.masked_fill(
        torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf
    )
    other = torch.arange(len(views), device=views.device).roll(len(a))
    return F.cross_entropy(logits, other)


def simclr_loss(model: SimCLR, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """CLIP's own loss and SimCLR's, for (images (B, 3, H, W), tokens (B, T))."""
    a, b = (model(view) for view in two_views(batch[0], generator))
    return clip_loss(model.clip, batch, generator) + WEIGHT * nt_xent(a, b)


# SimSiam


class SimSiam(nn.Module):
    """A CLIP, a projector that reads its class token, and a predictor of the other view's.

    Batches normalise themselves, without running averages: both heads only ever see training.
    """

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        self.projector = nn.Sequential(
            *_normed(clip.config.width, HIDDEN),
            nn.SiLU(),
            *_normed(HIDDEN, PROJECTED),
        )
        self.predictor = nn.Sequential(
            *_normed(PROJECTED, PROJECTED // 4),  # narrow, as in the paper
            nn.SiLU(),
            nn.Linear(PROJECTED // 4, PROJECTED),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """→ projections and predictions (B, P). Raises ValueError for a single picture."""
        if len(images) < 2:
            raise ValueError(
                "SimSiam compares a batch with its own mean, so 1 picture teaches it nothing; "
                "take a batch of 2 or more"
            )
        projected = self.projector(self.clip.image_tower.features(images)[:, 0])
        return projected, self.predictor(projected)


def _normed(width_in: int, width_out: int) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Linear(width_in, width_out, bias=False),
        nn.BatchNorm1d(width_out, track_running_stats=False),
    )


def towards(predicted: Tensor, target: Tensor) -> Tensor:
    """(B, P) twice → minus their mean cosine, in [-1, 1]; the target gets no gradient."""
    return -F.cosine_similarity(predicted.float(), target.detach().float(), dim=-1).mean()


def simsiam_loss(
    model: SimSiam, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """CLIP's own loss and SimSiam's, for (images (B, 3, H, W), tokens (B, T))."""
    (a, predicted_b), (b, predicted_a) = (model(view) for view in two_views(batch[0], generator))
    views = (towards(predicted_b, b) + towards(predicted_a, a)) / 2
    return clip_loss(model.clip, batch, generator) + WEIGHT * views
