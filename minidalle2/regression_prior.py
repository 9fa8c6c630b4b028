"""Text embedding → image embedding without any randomness: the honest baseline.

z_t (B, E) → z_i (B, E), by ridge regression or a small network. A caption leaves open what it does
not say, and the best single answer is the mean of all that it allows, which is none of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class RegressionPriorConfig:
    clip_embedding: int = 128  # E
    width: int = 512  # of the two hidden layers; 0 is a linear map, which `ridge` solves


class RegressionPrior(nn.Module):
    """z_t (B, E) → z_i (B, E), before it is made unit length."""

    noise_size = 0  # nothing is drawn

    def __init__(self, config: RegressionPriorConfig):
        super().__init__()
        self.config = config
        e, width = config.clip_embedding, config.width
        self.layers = nn.Sequential(nn.Linear(e, e))
        if width > 0:
            self.layers = nn.Sequential(
                nn.Linear(e, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                nn.Linear(width, e),
            )  # fmt: skip

    def forward(self, z_t: Tensor) -> Tensor:
        root = self.config.clip_embedding**0.5  # the layers see, and give, numbers of about 1
        return self.layers(z_t * root).float() / root

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """x_T (B, n, 0) → (B, n, E), n times the same, unit length. The other priors read the
        caption, take steps and can be guided; this one does none of it."""
        z = F.normalize(self(z_t), dim=-1)
        return z[:, None].expand(-1, x_T.shape[1], -1)


def regression_loss(
    prior: RegressionPrior, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Mean squared error of z_i, E times, which makes 1 of answering nothing."""
    z_i, z_t, _ = batch
    return F.mse_loss(prior(z_t), z_i) * prior.config.clip_embedding


def ridge(z_t: Tensor, z_i: Tensor, penalty: float = 1e-4) -> RegressionPrior:
    """The linear prior with the least ‖z_t W + b - z_i‖²/N + penalty ‖W‖², for unit z (N, E).

    Hoerl & Kennard 1970: W = (XᵀX/N + penalty I)⁻¹ XᵀY/N of the centred X and Y; b is free. In
    float64, because CLIP's z_t hardly vary in some directions.
    """
    x, y = z_t.double(), z_i.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    gram = (x - mean_x).T @ (x - mean_x) / len(x)
    cross = (x - mean_x).T @ (y - mean_y) / len(x)
    identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram + penalty * identity, cross)  # (E, E)
    prior = RegressionPrior(RegressionPriorConfig(z_t.shape[1], width=0)).to(z_t.device).eval()
    linear, root = prior.layers[0], z_t.shape[1] ** 0.5
    with torch.no_grad():
        linear.weight.copy_(weight.T)
        linear.bias.copy_((mean_y - mean_x @ weight) * root)
    return prior
