"""PCA: what components are, and scikit-free references."""

import pytest
import torch

from minidalle2.priors.pca import PCA


@pytest.fixture
def z() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3


def test_variance_is_that_of_the_covariance_matrix(z):
    eigenvalues = torch.linalg.eigvalsh(torch.cov(z.T)).flip(0)
    torch.testing.assert_close(PCA.fit(z, 6).variance, eigenvalues, rtol=1e-3, atol=1e-4)


def test_components_are_orthonormal_eigenvectors(z):
    pca = PCA.fit(z, 4)
    torch.testing.assert_close(pca.components @ pca.components.T, torch.eye(4), atol=1e-5, rtol=0)
    stretched = torch.cov(z.T) @ pca.components.T
    torch.testing.assert_close(stretched, pca.components.T * pca.variance, atol=1e-3, rtol=1e-3)


def test_coordinates_have_the_variance_and_no_mean(z):
    pca = PCA.fit(z, 3)
    coordinates = pca.project(z)
    torch.testing.assert_close(coordinates.var(0), pca.variance, rtol=1e-3, atol=1e-4)
    assert coordinates.mean(0).abs().max() < 1e-4


def test_all_components_restore_exactly_fewer_nearly(z):
    torch.testing.assert_close(
        PCA.fit(z, 6).restore(PCA.fit(z, 6).project(z)), z, atol=1e-3, rtol=1e-3
    )
    errors = [(PCA.fit(z, k).restore(PCA.fit(z, k).project(z)) - z).norm() for k in (1, 2, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_agrees_with_torch_up_to_sign(z):
    _, _, directions = torch.pca_lowrank(z, q=6, center=True, niter=10)
    ours = PCA.fit(z, 3).components
    assert ((directions.T[:3] * ours).sum(1).abs() > 0.999).all()


def test_signs_do_not_depend_on_the_order_of_rows(z):
    torch.testing.assert_close(
        PCA.fit(z, 3).components, PCA.fit(z.flip(0), 3).components, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("k", [0, 7])
def test_too_many_components_are_refused(z, k):
    with pytest.raises(ValueError, match="1 to 6 components"):
        PCA.fit(z, k)
