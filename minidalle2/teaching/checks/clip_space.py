"""Checks of exercises 04: principal components, zero-shot classes, the modality gap."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.priors.pca import PCA
from minidalle2.teaching.checks.compare import call, compare


def check_project(project: Callable, seed: int = 0) -> None:
    """project(z (N, E), mean (E,), components (K, E)) → (N, K) coordinates."""
    z = torch.randn(30, 6, generator=torch.Generator().manual_seed(seed)) + 2
    pca = PCA.fit(z, 2)
    truth = pca.project(z)
    mean_kept = z @ pca.components.T
    mean_added = (z + pca.mean) @ pca.components.T
    mistakes = {
        "The mean is not subtracted. Components are directions of centred rows.": mean_kept,
        "Each row has E numbers. The task asks for K coordinates.": truth @ pca.components,
        "The mean is added. Subtract it.": mean_added,
    }
    answer = call("project", project, z, pca.mean, pca.components)
    compare("project", answer, truth, mistakes)


def check_explained(explained: Callable, seed: int = 0) -> None:
    """explained(singular (K,)) → (K,), the share of the variance in the first k components."""
    singular = torch.rand(7, generator=torch.Generator().manual_seed(seed)).sort().values.flip(0)
    variance = singular**2
    no_squares = singular.cumsum(0) / singular.sum()
    alone = variance / variance.sum()
    mistakes = {
        "Shares of singular values are returned. Variances are their squares.": no_squares,
        "The share of each component is returned. Sum the shares of the first k.": alone,
        "Variances are returned. What is the total, of which they are shares?": variance.cumsum(0),
    }
    answer = call("explained", explained, singular)
    compare("explained", answer, variance.cumsum(0) / variance.sum(), mistakes)


def check_zero_shot(zero_shot: Callable, seed: int = 0) -> None:
    """zero_shot(z_i (B, E), z_t (C, E)) → (B,), the class whose text is nearest.

    The rows of z_i and z_t have different lengths.
    """
    generator = torch.Generator().manual_seed(seed)
    z_i = torch.randn(60, 8, generator=generator)
    z_t = torch.randn(5, 8, generator=generator) * torch.tensor([[0.2], [1.0], [3.0], [0.5], [6.0]])
    cosine = F.normalize(z_i, dim=-1) @ F.normalize(z_t, dim=-1).T
    mistakes = {
        "Long text embeddings win. Only directions should count.": (z_i @ z_t.T).argmax(1),
        "A picture is selected for each class. Select a class for each picture.": cosine.argmax(0),
        "The farthest class is selected.": cosine.argmin(1),
    }
    compare("zero_shot", call("zero_shot", zero_shot, z_i, z_t), cosine.argmax(1), mistakes)


def check_modality_gap(modality_gap: Callable, seed: int = 0) -> None:
    """modality_gap(z_i (N, E), z_t (N, E)) → a scalar, the distance between the two centres."""
    generator = torch.Generator().manual_seed(seed)
    z_i = F.normalize(torch.randn(40, 8, generator=generator) + 1, dim=-1)
    z_t = F.normalize(torch.randn(40, 8, generator=generator) - 1, dim=-1)
    difference = z_i.mean(0) - z_t.mean(0)
    of_pairs = (z_i - z_t).norm(dim=1).mean()
    mistakes = {
        "Distances of pairs are averaged. The gap is the distance of the centres.": of_pairs,
        "The squared distance is returned.": difference.square().sum(),
        "One difference for each dimension is returned. The task asks for a length.": difference,
    }
    answer = call("modality_gap", modality_gap, z_i, z_t)
    compare("modality_gap", answer, difference.norm(), mistakes)
