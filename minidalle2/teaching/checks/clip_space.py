"""Exercises 04: principal components, zero-shot classes, the modality gap."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.pca import PCA
from minidalle2.teaching.checks.compare import call, compare


def check_project(project: Callable, seed: int = 0) -> None:
    """project(z, mean, components) → (N, K) coordinates."""
    z = torch.randn(30, 6, generator=torch.Generator().manual_seed(seed)) + 2
    pca = PCA.fit(z, 2)
    truth = pca.project(z)
    compare(
        "project", call("project", project, z, pca.mean, pca.components), truth,
        {
            "the mean is still in it; components belong to centred rows": z @ pca.components.T,
            "the points are back in all dimensions; coordinates are asked for":
                truth @ pca.components,
            "the mean is added, but it should go": (z + pca.mean) @ pca.components.T,
        },
    )  # fmt: skip


def check_explained(explained: Callable, seed: int = 0) -> None:
    """explained(singular) → (K,) share of the variance that the first k components hold."""
    singular = torch.rand(7, generator=torch.Generator().manual_seed(seed)).sort().values.flip(0)
    squares = singular**2
    compare(
        "explained", call("explained", explained, singular), squares.cumsum(0) / squares.sum(),
        {
            "singular values are deviations; variances are their squares":
                singular.cumsum(0) / singular.sum(),
            "each component stands alone; the first k together are asked for":
                squares / squares.sum(),
            "it is no share yet; what is the whole?": squares.cumsum(0),
        },
    )  # fmt: skip


def check_zero_shot(zero_shot: Callable, seed: int = 0) -> None:
    """zero_shot(z_i, z_t) → (B,) the class whose text is nearest; rows need not be unit."""
    generator = torch.Generator().manual_seed(seed)
    z_i = torch.randn(60, 8, generator=generator)
    z_t = torch.randn(5, 8, generator=generator) * torch.tensor([[0.2], [1.0], [3.0], [0.5], [6.0]])
    cosine = F.normalize(z_i, dim=-1) @ F.normalize(z_t, dim=-1).T
    compare(
        "zero_shot", call("zero_shot", zero_shot, z_i, z_t), cosine.argmax(1),
        {
            "long texts win; only directions should count": (z_i @ z_t.T).argmax(1),
            "for each class a picture is chosen; for each picture a class is asked for":
                cosine.argmax(0),
            "the farthest class is chosen": cosine.argmin(1),
        },
    )  # fmt: skip


def check_modality_gap(modality_gap: Callable, seed: int = 0) -> None:
    """modality_gap(z_i, z_t) → the distance between the two clouds' centres."""
    generator = torch.Generator().manual_seed(seed)
    z_i = F.normalize(torch.randn(40, 8, generator=generator) + 1, dim=-1)
    z_t = F.normalize(torch.randn(40, 8, generator=generator) - 1, dim=-1)
    compare(
        "modality_gap", call("modality_gap", modality_gap, z_i, z_t),
        (z_i.mean(0) - z_t.mean(0)).norm(),
        {
            "the pairs' distances are averaged; the gap is between the clouds' centres":
                (z_i - z_t).norm(dim=1).mean(),
            "the distance is still squared": (z_i.mean(0) - z_t.mean(0)).square().sum(),
            "the differences are still one a dimension; one length is asked for":
                z_i.mean(0) - z_t.mean(0),
        },
    )  # fmt: skip
