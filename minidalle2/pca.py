"""Principal components of embeddings, which the paper probes CLIP's space with (section 3.3).

z (N, E) → directions of most variance, from the singular values of the centred rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PCA:
    mean: Tensor  # (E,)
    components: Tensor  # (K, E), orthonormal, in order of falling variance
    variance: Tensor  # (K,) along each component, of the rows it was fitted to

    @classmethod
    def fit(cls, z: Tensor, k: int) -> "PCA":
        """The first k components of the rows of z (N, E); k is at most min(N - 1, E)."""
        most = min(len(z) - 1, z.shape[1])
        if not 1 <= k <= most:
            raise ValueError(f"{tuple(z.shape)} numbers have 1 to {most} components, not {k}")
        mean = z.mean(0)
        _, singular, directions = torch.linalg.svd(z - mean, full_matrices=False)
        components = directions[:k]
        # A direction and its opposite are both right: the largest entry shall be positive.
        largest = components.abs().argmax(1, keepdim=True)
        components = components * components.gather(1, largest).sign()
        return cls(mean, components, singular[:k] ** 2 / (len(z) - 1))

    @classmethod
    def keeping(cls, z: Tensor, share: float) -> "PCA":
        """The fewest components that keep `share` of the variance of z (N, E)."""
        if not 0 < share <= 1:
            raise ValueError(f"can't keep {share} of the variance; a share above 0, up to 1, works")
        pca = cls.fit(z, min(len(z) - 1, z.shape[1]))
        kept = pca.variance.cumsum(0) / pca.variance.sum()
        k = min(int((kept < share).sum()) + 1, len(kept))
        return cls(pca.mean, pca.components[:k], pca.variance[:k])

    def error(self, z: Tensor) -> float:
        """The share of the variance of z (N, E), also of other rows than were fitted, that the
        components lose. The paper's 319 of 1,024 lose less than 1 % of what they were fitted to."""
        lost = (self.restore(self.project(z)) - z).square().sum()
        return (lost / (z - z.mean(0)).square().sum()).item()

    def project(self, z: Tensor) -> Tensor:
        """(N, E) → coordinates (N, K)."""
        return (z - self.mean) @ self.components.T

    def restore(self, coordinates: Tensor) -> Tensor:
        """(N, K) → (N, E), the nearest points of the plane through the mean."""
        return self.mean + coordinates @ self.components
