"""Learned variance: interpolation, the bound's weight, and gradients that stay finite at t = 0."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from minidalle2.diffusion.process import TARGETS, Diffusion
from minidalle2.diffusion.schedule import Schedule, cosine_betas, linear_betas
from minidalle2.diffusion.variance import (
    discretized_log_likelihood,
    gaussian_kl,
    learned_log_variance,
    posterior_mean,
    split_variance,
    variance_loss,
)

COSINE = Schedule(cosine_betas(1000))
SHAPE = (4, 3, 4, 4)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_split():
    """(B, 2C, …) → prediction (B, C, …), fraction (B, C, …); no fraction where there is none."""
    prediction, fraction = split_variance(torch.arange(6.0).reshape(1, 6, 1, 1), 3)
    assert prediction.flatten().tolist() == [0, 1, 2] and fraction.flatten().tolist() == [3, 4, 5]
    assert split_variance(torch.zeros(2, 3, 4, 4), 3)[1].shape == (2, 0, 4, 4)


@pytest.mark.parametrize("t", [1, 10, 500, 999])
def test_logarithms_are_interpolated(t):
    """e-5: -1 is log β̃, 1 is log β, and 0 their geometric, not arithmetic, mean."""
    values = [
        learned_log_variance(torch.full((1, 1), v), COSINE, torch.tensor([t])).exp().item()
        for v in (-1.0, 0.0, 1.0)
    ]
    small, large = COSINE.posterior_variance[t].item(), COSINE.betas[t].item()
    assert values == pytest.approx([small, math.sqrt(small * large), large], rel=1e-4)


def test_posterior_mean_and_variance():
    """q(x_{t-1} | x_t, x_0) by Bayes' rule: the product of two Gaussians in x_{t-1}."""
    t, x0, x_t = torch.tensor([300]), torch.tensor([0.7]), torch.tensor([-0.4])
    beta, before = COSINE.betas[t], COSINE.previous_alpha_bar[t]
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = ((1 - beta).sqrt() * x_t / beta + before.sqrt() * x0 / (1 - before)) / precision
    torch.testing.assert_close(posterior_mean(COSINE, x0, x_t, t), mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(COSINE.posterior_variance[t], 1 / precision, rtol=1e-3, atol=0)


def test_kl_equals_torch():
    mean1, log1, mean2, log2 = (normal(50, seed=s) for s in range(4))
    expected = kl_divergence(Normal(mean1, (0.5 * log1).exp()), Normal(mean2, (0.5 * log2).exp()))
    torch.testing.assert_close(gaussian_kl(mean1, log1, mean2, log2), expected)


@pytest.mark.parametrize("deviation", [0.01, 0.3])
@pytest.mark.parametrize("mean", [-1.0, 0.1, 0.98])
def test_bins_cover_everything(mean, deviation):
    """The probabilities of all 256 values sum to 1, the end bins reaching to infinity."""
    values = torch.arange(256) / 127.5 - 1
    log_variance = torch.full((256,), 2 * math.log(deviation))
    p = discretized_log_likelihood(values, torch.full((256,), mean), log_variance).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-4)


def random_case(target: str, t: list[int]):
    """diffusion, x0, eps, x_t, t and a fraction that wants a gradient."""
    diffusion, t = Diffusion(COSINE, target), torch.tensor(t)
    x0, eps = normal(*SHAPE).clamp(-1, 1), normal(*SHAPE, seed=1)
    fraction = 0.5 * normal(*SHAPE, seed=2)
    return diffusion, x0, eps, diffusion.add_noise(x0, t, eps), t, fraction.requires_grad_()


def uniform(diffusion: Diffusion, t: torch.Tensor) -> torch.Tensor:
    """(B,) → (B,) the probability of each t if all T timesteps are equally likely: 1/T."""
    return torch.full(t.shape, 1 / len(diffusion.schedule))


@pytest.mark.parametrize("steps", [50, 1000])
def test_weight_of_the_bound(steps):
    """e-6: .001 weighs the sum over T, so one term counts T/1000 times; in bits a dimension."""
    schedule = Schedule(cosine_betas(steps))
    diffusion, t = Diffusion(schedule, "x0"), torch.tensor([steps // 2])
    x0, guess, x_t, fraction = (normal(1, 3, 4, 4, seed=s) for s in range(4))
    deviations = [
        (0.5 * log).exp()
        for log in (
            schedule.posterior_log_variance[t].reshape(1, 1, 1, 1),
            learned_log_variance(fraction, schedule, t),
        )
    ]
    means = [posterior_mean(schedule, x, x_t, t) for x in (x0, guess)]
    kl = kl_divergence(Normal(means[0], deviations[0]), Normal(means[1], deviations[1]))
    loss = variance_loss(diffusion, guess, fraction, x0, x_t, t, uniform(diffusion, t))
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(steps / 1000 * kl.mean().item() / math.log(2), rel=1e-3)


def test_each_term_is_divided_by_its_probability():
    """So the expected value is the sum over T, whatever the distribution of t."""
    diffusion, x0, _, x_t, t, fraction = random_case("x0", [0, 10, 500, 900])
    probability = torch.tensor([0.4, 0.001, 0.1, 0.02])
    terms = variance_loss(diffusion, 0.9 * x0, fraction, x0, x_t, t, torch.ones(4))
    loss = variance_loss(diffusion, 0.9 * x0, fraction, x0, x_t, t, probability)
    assert (terms > 0).all()
    torch.testing.assert_close(loss * probability, terms)


def test_first_term_is_the_likelihood():
    """At t = 0 the term is -log P(x0) of 8-bit values."""
    diffusion, x0, _, x_t, t, fraction = random_case("x0", [0] * 4)
    guess = x0 + 0.01
    mean = posterior_mean(COSINE, guess, x_t, t)
    log_p = discretized_log_likelihood(x0, mean, learned_log_variance(fraction, COSINE, t))
    loss = variance_loss(diffusion, guess, fraction, x0, x_t, t, uniform(diffusion, t))
    torch.testing.assert_close(loss, -log_p.flatten(1).mean(1) / math.log(2))


@pytest.mark.parametrize("target", TARGETS)
def test_mean_is_detached(target):
    """e-6: the bound teaches the variance alone."""
    diffusion, x0, eps, x_t, t, fraction = random_case(target, [0, 10, 500, 900])
    prediction = (diffusion.target_of(x0, t, eps) + 0.005).requires_grad_()
    variance_loss(
        diffusion, prediction, fraction, x0, x_t, t, uniform(diffusion, t)
    ).sum().backward()
    assert prediction.grad is None
    assert (fraction.grad.flatten(1).abs().amax(1) > 0).all()  # at t = 0 too (e-4)


def test_mean_follows_the_target():
    """e-6: one belief about x0, said as eps, x0 or v, has one loss."""
    losses = []
    for target in TARGETS:
        diffusion, x0, _, x_t, t, fraction = random_case(target, [1, 10, 500, 900])
        belief = 0.8 * x0
        prediction = diffusion.target_of(belief, t, diffusion.to_eps(belief, x_t, t))
        losses.append(
            variance_loss(diffusion, prediction, fraction, x0, x_t, t, uniform(diffusion, t))
        )
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(losses[2], losses[1], rtol=1e-2, atol=1e-4)


def test_a_perfect_network_has_no_loss():
    """The true x0 and fraction -1, the small variance, make the KL vanish at t > 0."""
    diffusion, x0, _, x_t, t, _ = random_case("x0", [1, 10, 500, 900])
    loss = variance_loss(diffusion, x0, torch.full(SHAPE, -1.0), x0, x_t, t, uniform(diffusion, t))
    torch.testing.assert_close(loss, torch.zeros(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "schedule", [COSINE, Schedule(linear_betas(1000))], ids=["cosine", "linear"]
)
@pytest.mark.parametrize("value", [-5.0, 5.0])
def test_gradient_at_zero_is_finite(value, schedule):
    """e-4: with log 1e-20 there, the branch that t = 0 does not select overflows at -5, and
    torch.where passes its NaN on."""
    diffusion, t = Diffusion(schedule, "x0"), torch.zeros(4, dtype=torch.long)
    x0 = normal(*SHAPE).clamp(-1, 1)
    x_t = diffusion.add_noise(x0, t, normal(*SHAPE, seed=1))
    fraction = torch.full(SHAPE, value, requires_grad=True)
    loss = variance_loss(diffusion, x0 + 0.5, fraction, x0, x_t, t, uniform(diffusion, t)).mean()
    loss.backward()
    assert loss.isfinite() and fraction.grad.isfinite().all()
