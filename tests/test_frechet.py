"""Distances between sets of embeddings: Fréchet's against other ways to compute it, and precision
and recall by hand."""

import pytest
import torch
from torch import nn

from minidalle2.evaluation.frechet import frechet_distance, gaussian_of, square_root
from minidalle2.evaluation.precision_recall import precision_and_recall


def rows(n: int, width: int, seed: int) -> torch.Tensor:
    """Embeddings whose dimensions hang together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator)
    return torch.randn(n, width, generator=generator) @ mixed + mixed[0]


def test_two_numbers_by_hand():
    """Means 1 and 7, variances 2 and 8: 36 + (√2 - √8)² = 38."""
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [9.0]])
    assert frechet_distance(a, b) == pytest.approx(38)
    assert frechet_distance(b, a) == pytest.approx(38)


def test_a_shift_alone_counts_squared():
    z, shift = rows(50, 6, 0), torch.tensor([1.0, -2, 0, 0, 0, 2])
    assert frechet_distance(z, z) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(z, z + shift) == pytest.approx(9, rel=1e-5)


def test_covariances_that_do_not_commute():
    """tr (Σ1 Σ2)^½ from the eigenvalues of the product itself, which is not symmetric."""
    a, b = rows(40, 5, 1), rows(60, 5, 2)
    (mean1, one), (mean2, two) = gaussian_of(a), gaussian_of(b)
    assert (one @ two - two @ one).abs().max() > 0.1
    product = torch.linalg.eigvals(one @ two).real.sqrt().sum()
    expected = (mean1 - mean2).square().sum() + one.trace() + two.trace() - 2 * product
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)
    wrong = square_root(one) @ square_root(two)  # right only where they commute
    assert abs(wrong.trace() - product) > 0.01


def test_fewer_rows_than_dimensions():
    """Covariances without full rank, as 64-bit eigenvalues a little below zero would betray."""
    a, b = rows(5, 12, 3), rows(6, 12, 4)
    distance = frechet_distance(a, b)
    assert distance > 0.1 and distance == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_equal_to_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(nn.Module):
        """Pictures that are embeddings already."""

        num_features = 8

        def forward(self, images):
            return images

    drawn, real = rows(100, 8, 5), rows(80, 8, 6)
    theirs = FrechetInceptionDistance(Given(), normalize=True).set_dtype(torch.float64)
    theirs.update(drawn.double(), real=False)
    theirs.update(real.double(), real=True)
    assert frechet_distance(drawn, real) == pytest.approx(theirs.compute().item(), rel=1e-4)


def test_a_root_squares_to_its_matrix():
    _, covariance = gaussian_of(rows(30, 7, 7))
    root = square_root(covariance)
    torch.testing.assert_close(root @ root, covariance)
    assert (root - root.T).abs().max() < 1e-12


def test_one_embedding_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 embeddings, not 1"):
        frechet_distance(rows(1, 3, 0), rows(5, 3, 0))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_precision_and_recall_by_hand():
    """k = 1. Real balls have radius 1 and cover [-1, 4]; drawn ones reach 3.4, 0.6, 0.6 and 95.5
    around 0.5, 3.9, 4.5 and 100, and cover [-2.9, 195.5]."""
    real, drawn = column(0, 1, 2, 3), column(0.5, 3.9, 4.5, 100)
    assert precision_and_recall(drawn, real, k=1) == (0.5, 1)
    assert precision_and_recall(real, drawn, k=1) == (1, 0.5)


def test_a_larger_k_makes_larger_balls():
    """k = 2: real radii 2, 1, 1 and 2 cover [-2, 5]."""
    real = column(0, 1, 2, 3)
    assert precision_and_recall(column(0.5, 3.9, 4.5, 100), real, k=2)[0] == 0.75


def test_what_is_never_drawn_is_missed_by_recall_alone():
    """Two clusters of which one is drawn: every picture is real, half of what is real is missed."""
    near, far = rows(40, 4, 8), rows(40, 4, 9) + 100
    drawn = near + 0.001
    precision, recall = precision_and_recall(drawn, torch.cat((near, far)))
    assert precision == 1 and recall == 0.5


def test_too_few_neighbours():
    with pytest.raises(ValueError, match="3 embeddings have no neighbour number 3"):
        precision_and_recall(rows(9, 2, 0), rows(3, 2, 0))
