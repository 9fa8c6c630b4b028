"""Fréchet distance between the embeddings of drawn pictures and those of real pictures.

(N, E) and (M, E) → one number, which is 0 if both sets have the same mean and covariance. The paper
reports this distance for features of an Inception network (FID, Heusel et al. 2017). Here the
features are the embeddings of this project's CLIP. Therefore the numbers can be compared with each
other, but not with published ones, and only at equal N and M: smaller sets have larger distances.
"""

import torch
from torch import Tensor


def frechet_distance(drawn: Tensor, real: Tensor) -> float:
    """|μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½). Raises ValueError for sets of fewer than two rows."""
    (mean1, covariance1), (mean2, covariance2) = gaussian_of(drawn), gaussian_of(real)
    # Σ1 Σ2 is not symmetric. Σ1^½ Σ2 Σ1^½ is symmetric and has the same eigenvalues.
    root = square_root(covariance1)
    eigenvalues = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0)
    spread = covariance1.trace() + covariance2.trace() - 2 * eigenvalues.sqrt().sum()
    return max(0.0, ((mean1 - mean2).square().sum() + spread).item())


def gaussian_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(N, E) → mean (E,) and covariance (E, E).

    They are float64, because a square root doubles the number of digits that are needed.
    """
    if len(rows) < 2:
        raise ValueError(f"a covariance needs at least 2 embeddings, not {len(rows)}")
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def square_root(matrix: Tensor) -> Tensor:
    """Symmetric matrix (E, E) without negative eigenvalues → its symmetric square root."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
