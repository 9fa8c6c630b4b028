"""Precision and recall of drawn pictures (Kynkäänniemi et al. 2019), in the space of our own CLIP.

Embeddings (N, E) and (M, E) → two shares. A set's manifold is the union of balls around its rows,
each as large as the distance to the row's k-th nearest other row. Precision: drawn pictures on the
real ones' manifold. Recall: real pictures on the drawn ones'.
"""

import torch
from torch import Tensor

NEIGHBOURS = 3  # k of the paper


def precision_and_recall(drawn: Tensor, real: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    return share_on_manifold(drawn, real, k), share_on_manifold(real, drawn, k)


def share_on_manifold(points: Tensor, manifold: Tensor, k: int) -> float:
    """Raises ValueError where the manifold has no k-th neighbours."""
    if len(manifold) <= k:
        raise ValueError(f"{len(manifold)} embeddings have no neighbour number {k}; give more")
    radius = distances(manifold, manifold).kthvalue(k + 1, dim=1).values  # the nearest is itself
    return (distances(points, manifold) <= radius).any(1).float().mean().item()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, E), (M, E) → (N, M), each from its difference: products would cancel for near rows."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
