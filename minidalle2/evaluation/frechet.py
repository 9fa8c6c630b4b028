"""Fréchet distance of two sets of embeddings: how far drawn pictures are from real ones, as sets.

(N, E) and (M, E) → one number, 0 where both have the same mean and covariance. The paper reports it
in the space of Inception (FID, Heusel et al. 2017); ours is that of our own CLIP, so its numbers
compare only with one another, and only at equal N and M: small sets look further apart.
"""

import torch
from torch import Tensor


def frechet_distance(drawn: Tensor, real: Tensor) -> float:
    """|μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½). Raises ValueError for sets of fewer than two."""
    (mean1, covariance1), (mean2, covariance2) = gaussian_of(drawn), gaussian_of(real)
    # Σ1 Σ2 is not symmetric, but has the eigenvalues of Σ1^½ Σ2 Σ1^½, which is.
    root = square_root(covariance1)
    eigenvalues = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0)
    spread = covariance1.trace() + covariance2.trace() - 2 * eigenvalues.sqrt().sum()
    return max(0.0, ((mean1 - mean2).square().sum() + spread).item())


def gaussian_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(N, E) → mean (E,) and covariance (E, E), float64: square roots double the digits needed."""
    if len(rows) < 2:
        raise ValueError(f"a covariance needs at least 2 embeddings, not {len(rows)}")
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def square_root(matrix: Tensor) -> Tensor:
    """(E, E) symmetric, no eigenvalue below 0 → its symmetric root, by eigendecomposition."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
