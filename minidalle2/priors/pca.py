"""Principal components of embeddings. The paper studies CLIP's space with them (section 3.3).

z (N, E) → the directions of largest variance, by a singular value decomposition of the centred
rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PCA:
    """The first K principal components of some embeddings."""

    mean: Tensor  # (E,)
    components: Tensor  # (K, E), orthonormal, in the order of decreasing variance
    variance: Tensor  # (K,) of the embeddings along each component

    @classmethod
    def fit(cls, z: Tensor, k: int) -> "PCA":
        """The first k components of the rows of z (N, E).

        Raises ValueError unless 1 ≤ k ≤ min(N - 1, E).
        """
        most = min(len(z) - 1, z.shape[1])
        if not 1 <= k <= most:
            shape = tuple(z.shape)
            raise ValueError(f"embeddings of shape {shape} have 1 to {most} components, not {k}")
        mean = z.mean(0)
        _, singular, directions = torch.linalg.svd(z - mean, full_matrices=False)
        components = directions[:k]
        # The sign of a direction is arbitrary. It is chosen so that the largest entry is positive.
        largest = components.abs().argmax(1, keepdim=True)
        components = components * components.gather(1, largest).sign()
        return cls(mean, components, singular[:k] ** 2 / (len(z) - 1))

    @classmethod
    def keeping(cls, z: Tensor, share: float) -> "PCA":
        """The smallest number of components that keep a share of the variance of z (N, E).

        Raises ValueError unless 0 < share ≤ 1.
        """
        if not 0 < share <= 1:
            raise ValueError(
                f"can't keep a share of {share} of the variance; a share above 0, up to 1, would "
                "work"
            )
        pca = cls.fit(z, min(len(z) - 1, z.shape[1]))
        kept = pca.variance.cumsum(0) / pca.variance.sum()
        k = min(int((kept < share).sum()) + 1, len(kept))
        return cls(pca.mean, pca.components[:k], pca.variance[:k])

    def error(self, z: Tensor) -> float:
        """The share of the variance of z (N, E) that the components lose.

        z can be the fitted rows or other rows. The paper's 319 of 1,024 components lose less than
        1 % for the fitted rows.
        """
        lost = (self.restore(self.project(z)) - z).square().sum()
        return (lost / (z - z.mean(0)).square().sum()).item()

    def project(self, z: Tensor) -> Tensor:
        """Embeddings (N, E) → coordinates (N, K)."""
        return (z - self.mean) @ self.components.T

    def restore(self, coordinates: Tensor) -> Tensor:
        """Coordinates (N, K) → embeddings (N, E) in the K-dimensional plane through the mean."""
        return self.mean + coordinates @ self.components
