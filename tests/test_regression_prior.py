"""The regression priors: ridge solved twice, the network, and what no regression can do."""

import pytest
import torch
import torch.nn.functional as F

from minidalle2.diffusion.sampling import Noise
from minidalle2.priors.regression_prior import (
    RegressionPrior,
    RegressionPriorConfig,
    regression_loss,
    ridge,
)
from minidalle2.storage.checkpoints import load_model, save_model

E = 12


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """(z_t, z_i), both unit length; z_t varies much along some directions, little along others."""
    z_t = F.normalize(torch.randn(200, E) * torch.logspace(0, -2, E), dim=1)
    z_i = F.normalize(z_t @ torch.randn(E, E) + 0.3 * torch.randn(200, E) + 0.2, dim=1)
    return z_t, z_i


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_ridge_is_least_squares_with_rows_that_ask_for_nothing(pairs, penalty):
    """An independent way: plain least squares with √(N penalty) I → 0 among its equations, and a
    column of ones, which is not penalised, for the intercept."""
    z_t, z_i = (z.double() for z in pairs)
    asked = torch.cat((z_t, (len(z_t) * penalty) ** 0.5 * torch.eye(E, dtype=torch.float64)))
    ones = torch.cat((torch.ones(len(z_t)), torch.zeros(E))).double()[:, None]
    answers = torch.cat((z_i, torch.zeros(E, E, dtype=torch.float64)))
    solution = torch.linalg.lstsq(torch.cat((asked, ones), dim=1), answers).solution
    expected = z_t @ solution[:E] + solution[E]
    with torch.no_grad():
        answer = ridge(*pairs, penalty)(pairs[0])
    torch.testing.assert_close(answer, expected.float(), atol=1e-5, rtol=1e-4)


def test_ridge_finds_a_linear_map():
    """With next to no penalty, also the intercept; with a huge one, the mean of z_i for all."""
    z_t = torch.randn(100, E)
    z_i = z_t @ torch.randn(E, E) + torch.randn(E)
    with torch.no_grad():
        torch.testing.assert_close(ridge(z_t, z_i, 1e-10)(z_t), z_i, atol=1e-3, rtol=1e-3)
        held_back = ridge(z_t, z_i, 1e9)(z_t)
    torch.testing.assert_close(held_back, z_i.mean(0).expand(100, -1), atol=1e-3, rtol=1e-3)


def test_ridge_is_a_prior_that_loads(pairs, tmp_path):
    prior = ridge(*pairs)
    save_model(tmp_path, "regression_prior", prior)
    loaded = load_model(tmp_path, "regression_prior", RegressionPriorConfig, RegressionPrior)
    with torch.no_grad():
        assert torch.equal(loaded(pairs[0]), prior(pairs[0]))


@pytest.mark.parametrize("width", [0, 32])
def test_candidates_are_all_alike(pairs, tokenizer, width):
    """(B, n, E) of unit length, whatever the noise, which it takes none of."""
    prior = RegressionPrior(RegressionPriorConfig(E, width)).requires_grad_(False)
    x_T = Noise([0, 1, 2])(4, prior.noise_size)
    z = prior.candidates(pairs[0][:3], tokenizer(["a"] * 3), x_T, 10, 1.5)
    assert z.shape == (3, 4, E)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(3, 4))
    assert torch.equal(z[:, 0], z[:, 3]) and (z[0, 0] - z[1, 0]).abs().max() > 1e-4


def test_loss(pairs, tokenizer):
    """1 of answering nothing, 0 of answering z_i, the mean squared distance in between."""
    prior = RegressionPrior(RegressionPriorConfig(E, 32)).requires_grad_(False)
    z_t, z_i = pairs
    batch = z_i, z_t, tokenizer(["a"])
    loss = regression_loss(prior, batch, torch.Generator())
    assert loss.item() == pytest.approx((prior(z_t) - z_i).square().sum(1).mean().item(), rel=1e-5)
    prior.layers[-1].weight.zero_()
    prior.layers[-1].bias.zero_()
    assert regression_loss(prior, batch, torch.Generator()).item() == pytest.approx(1, rel=1e-5)


def test_the_network_bends_where_the_line_cannot():
    """z_i on a curve over z_t: the network beats ridge."""
    angle = torch.rand(256, 1) * 3
    z_t = torch.cat((angle.cos(), angle.sin()), dim=1)
    z_i = torch.cat(((4 * angle).cos(), (4 * angle).sin()), dim=1)
    prior = RegressionPrior(RegressionPriorConfig(2, 32))
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = regression_loss(prior, (z_i, z_t, None), torch.Generator())
        loss.backward()
        optimizer.step()
    straight = regression_loss(ridge(z_t, z_i), (z_i, z_t, None), torch.Generator())
    assert loss < 0.2 < 0.5 < straight


def test_the_mean_of_what_a_caption_allows_is_none_of_it():
    """Why a prior draws: of two equally likely, orthogonal z_i regression answers the middle, 45
    degrees from either."""
    z_t = F.one_hot(torch.arange(4) // 2, 4).float()
    z_i = torch.eye(4)
    middle = F.normalize(ridge(z_t, z_i, 1e-8)(z_t).detach(), dim=1)
    torch.testing.assert_close((middle * z_i).sum(1), torch.full((4,), 0.5**0.5), atol=1e-3, rtol=0)
