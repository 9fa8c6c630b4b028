"""The regression prior: text embedding → image embedding without randomness, as a baseline.

z_t (B, E) → z_i (B, E), by ridge regression or by a small network. Many different pictures fit a
caption. The best single prediction is the mean of their embeddings, which is the embedding of none
of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.validation import require, require_positive


@dataclass
class RegressionPriorConfig:
    clip_embedding: int = 128  # E
    width: int = 512  # of the two hidden layers; 0 for a linear map, which `ridge` can compute

    def __post_init__(self):
        require_positive(self, "clip_embedding")
        require(self.width >= 0, f"width cannot be negative, but is {self.width}")


class RegressionPrior(nn.Module):
    """z_t (B, E) → z_i (B, E), not normalised."""

    noise_size = 0  # the prediction is not random

    def __init__(self, config: RegressionPriorConfig):
        super().__init__()
        self.config = config
        e, width = config.clip_embedding, config.width
        self.layers = nn.Sequential(nn.Linear(e, e))
        if width > 0:
            self.layers = nn.Sequential(
                nn.Linear(e, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, e),
            )

    def forward(self, z_t: Tensor) -> Tensor:
        root = self.config.clip_embedding**0.5  # scales inputs and outputs to numbers of about 1
        return self.layers(z_t * root).float() / root

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """z_t (B, E), x_T (B, n, 0) → (B, n, E), unit length: n times the same prediction.

        `tokens`, `steps` and `guidance` are ignored.
        """
        z = F.normalize(self(z_t), dim=-1)
        return z[:, None].expand(-1, x_T.shape[1], -1)


def regression_loss(
    prior: RegressionPrior, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (unit z_i, unit z_t, tokens). It draws no random numbers."""
    return regression_loss_at(prior, batch, ())


def regression_loss_at(
    prior: RegressionPrior, batch: tuple[Tensor, Tensor, Tensor], draws: tuple[()]
) -> Tensor:
    """The mean squared error of z_i, times E. A prediction of 0 has a loss of 1."""
    z_i, z_t, _ = batch
    return F.mse_loss(prior(z_t), z_i) * prior.config.clip_embedding


def ridge(z_t: Tensor, z_i: Tensor, penalty: float = 1e-4) -> RegressionPrior:
    """The linear prior that minimises ‖z_t W + b - z_i‖²/N + penalty ‖W‖², for unit z (N, E).

    Hoerl & Kennard 1970: W = (XᵀX/N + penalty I)⁻¹ XᵀY/N, for centred X and Y. b has no penalty.
    Computed in float64, because CLIP's z_t vary very little in some directions.
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
