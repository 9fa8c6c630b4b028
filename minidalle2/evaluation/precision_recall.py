"""Precision and recall of drawn pictures (Kynkäänniemi et al. 2019), measured on CLIP's embeddings.

The manifold of a set of embeddings is the union of balls around its rows. The radius of a ball is
the distance from its row to the k-th nearest other row. Precision is the share of drawn pictures
that lie on the manifold of the real ones. Recall is the share of real pictures that lie on the
manifold of the drawn ones. The paper uses features of a VGG network; here they are the embeddings
of this project's CLIP.
"""

import torch
from torch import Tensor

NEIGHBOURS = 3  # k, as in the paper


def precision_and_recall(drawn: Tensor, real: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Embeddings (N, E) and (M, E) → (precision, recall), both in [0, 1]."""
    return share_on_manifold(drawn, real, k), share_on_manifold(real, drawn, k)


def share_on_manifold(points: Tensor, manifold: Tensor, k: int) -> float:
    """Points (N, E), manifold (M, E) → the share of points on the manifold.

    Raises ValueError if the manifold has k rows or fewer.
    """
    if len(manifold) <= k:
        raise ValueError(
            f"{len(manifold)} embeddings have no neighbour number {k}; use more than {k}"
        )
    # k + 1, because the nearest row is the row itself.
    radius = distances(manifold, manifold).kthvalue(k + 1, dim=1).values
    return (distances(points, manifold) <= radius).any(1).float().mean().item()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, E), (M, E) → (N, M) Euclidean distances.

    They are computed from differences. Computed from products, distances of near rows would lose
    their digits by cancellation.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
