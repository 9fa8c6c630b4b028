"""Analytic-DPM: the best reverse variance is known in closed form for Gaussian data."""

import pytest
import torch

from minidalle2.diffusion.process import TARGETS, Diffusion
from minidalle2.diffusion.sampling import Noise, ddpm, last
from minidalle2.diffusion.schedule import (
    Schedule,
    at,
    cosine_betas,
    linear_betas,
    respace,
    spaced_timesteps,
)
from minidalle2.priors.analytic_dpm import analytic_variance, mean_squared_eps, optimal_variance

COSINE, LINEAR = Schedule(cosine_betas(1000)), Schedule(linear_betas(1000))
SCHEDULES = pytest.mark.parametrize("schedule", [COSINE, LINEAR], ids=["cosine", "linear"])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gaussian(diffusion: Diffusion, deviation: float):
    """The perfect denoiser of N(0, deviation²): E[x0 | x_t], in the language of the target."""

    def denoise(x_t, t):
        signal, noise = at(diffusion.schedule.signal, t, x_t), at(diffusion.schedule.noise, t, x_t)
        x0 = signal * deviation**2 / (signal**2 * deviation**2 + noise**2) * x_t
        return diffusion.target_of(x0, t, diffusion.to_eps(x0, x_t, t))

    return denoise


def kept_of(schedule: Schedule, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ᾱ at the kept timesteps and one step nearer to the data, in the order of sampling."""
    here = schedule.alpha_bar[spaced_timesteps(1000, steps)]
    return here, torch.cat((here[1:], torch.ones(1, dtype=torch.float64)))


def true_variance(schedule: Schedule, steps: int, deviation: float) -> torch.Tensor:
    """Var(x_s | x_t) of two jointly Gaussian numbers, from nothing but x_t = √α x_s + √(1-α) ε."""
    here, there = kept_of(schedule, steps)
    alpha, before = here / there, there * deviation**2 + 1 - there
    return before * (1 - alpha) / (alpha * before + 1 - alpha)


def true_squared_eps(schedule: Schedule, steps: int, deviation: float) -> torch.Tensor:
    here, _ = kept_of(schedule, steps)
    return (1 - here) / (here * deviation**2 + 1 - here)


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 3, 20, 64, 1000])
@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.0])
def test_known_optimum_of_gaussian_data(schedule, steps, deviation):
    """Bao et al., theorem 1, at every step, the last included, for any number of steps."""
    diffusion = Diffusion(schedule, "x0")
    squared_eps = true_squared_eps(schedule, steps, deviation)
    variance = optimal_variance(diffusion, squared_eps, deviation**2, steps)
    expected = true_variance(schedule, steps, deviation)
    torch.testing.assert_close(variance, expected, rtol=1e-3, atol=1e-7)


@SCHEDULES
@pytest.mark.parametrize("target", TARGETS)
def test_estimated_from_the_network(schedule, target):
    """The mean square of eps comes out whether the network answers eps, x0 or v."""
    diffusion, x0 = Diffusion(schedule, target), 0.5 * normal(4, 20_000)
    timesteps, denoise = spaced_timesteps(1000, 8), gaussian(diffusion, 0.5)
    measured = mean_squared_eps(diffusion, denoise, x0, timesteps, generator())
    torch.testing.assert_close(measured, true_squared_eps(schedule, 8, 0.5), rtol=0.02, atol=0.001)
    variance = analytic_variance(diffusion, denoise, x0, 8, generator())
    torch.testing.assert_close(variance, true_variance(schedule, 8, 0.5), rtol=0.03, atol=0.001)


def test_white_data_have_ddpm_s_large_variance():
    """Of N(0, 1) the best variance is β, the upper of DDPM's two fixed ones."""
    kept = respace(COSINE, spaced_timesteps(1000, 20))
    squared_eps = true_squared_eps(COSINE, 20, 1.0)
    variance = optimal_variance(Diffusion(COSINE, "eps"), squared_eps, 1.0, 20)
    torch.testing.assert_close(variance.float(), kept.betas.flip(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("target", ["eps", "x0"])
def test_a_single_sample_has_ddpm_s_small_variance(target):
    """Where x_t leaves nothing open of x0, eps is the very noise, and β̃ is right: DDPM."""
    diffusion, x0 = Diffusion(COSINE, target), normal(1, 12).expand(2, 12)
    kept = respace(COSINE, spaced_timesteps(1000, 10))

    def knows(x_t, t):
        known = x0.to(x_t)[:1].expand_as(x_t)
        return diffusion.target_of(known, t, diffusion.to_eps(known, x_t, t))

    many, timesteps = x0[:1].expand(50, 12), spaced_timesteps(1000, 10)
    squared_eps = mean_squared_eps(diffusion, knows, many, timesteps, generator())
    torch.testing.assert_close(squared_eps, torch.ones_like(squared_eps), rtol=1e-9, atol=0)
    variance = optimal_variance(diffusion, squared_eps, 1.0, 10)
    torch.testing.assert_close(
        variance.float(), kept.posterior_variance.flip(0), rtol=1e-4, atol=1e-12
    )
    x_T = normal(2, 12, seed=1)
    ours = last(ddpm(diffusion, knows, x_T, 10, Noise([0, 1]), variance=variance))
    theirs = last(ddpm(diffusion, knows, x_T, 10, Noise([0, 1])))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_given_ddpm_s_variance_it_is_ddpm():
    """At every step, with a network that is not perfect."""
    diffusion, x_T = Diffusion(COSINE, "x0"), normal(2, 12)
    kept = respace(COSINE, spaced_timesteps(1000, 6))
    arguments = diffusion, lambda x, t: torch.tanh(x), x_T, 6
    given = kept.posterior_log_variance.exp().flip(0)
    ours = ddpm(*arguments, Noise([0, 1]), variance=given)
    for a, b in zip(ours, ddpm(*arguments, Noise([0, 1])), strict=True):
        torch.testing.assert_close(a.x_next, b.x_next, rtol=1e-6, atol=1e-6)


def test_a_network_that_errs_stays_within_the_bounds():
    """Theorem 2: between nothing and all of the data's variance left open, whatever is measured."""
    diffusion, kept = Diffusion(COSINE, "x0"), respace(COSINE, spaced_timesteps(1000, 10))
    small = kept.posterior_variance.flip(0).double()
    most = small + kept.x0_weight.flip(0).double() ** 2 * 0.3
    too_much, none = (
        optimal_variance(diffusion, torch.full((10,), value), 0.3, 10) for value in (1.5, -1e9)
    )
    torch.testing.assert_close(too_much, small)
    torch.testing.assert_close(none, most)


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_few_steps_keep_the_deviation_of_the_data(deviation):
    """What it is for: five steps of it are exact on Gaussian data; DDPM's variance is too small."""
    diffusion, x_T = Diffusion(COSINE, "x0"), normal(4, 10_000)
    denoise = gaussian(diffusion, deviation)
    variance = true_variance(COSINE, 5, deviation)
    sampled = last(ddpm(diffusion, denoise, x_T, 5, Noise([0, 1, 2, 3]), variance=variance))
    fixed = last(ddpm(diffusion, denoise, x_T, 5, Noise([0, 1, 2, 3])))
    assert sampled.std().item() == pytest.approx(deviation, rel=0.02)
    assert fixed.std().item() < 0.9 * deviation


def test_conditions_stay_with_their_rows():
    """Each clean sample is noised by itself; the network hears the timesteps it was trained on."""
    diffusion, heard = Diffusion(COSINE, "x0"), []

    def denoise(x_t, t):
        heard.append((x_t, t.tolist()))
        return x_t

    mean_squared_eps(diffusion, denoise, torch.zeros(3, 12), torch.tensor([999, 0]), generator())
    assert [t for _, t in heard] == [[999] * 3, [0] * 3]
    assert len(heard[0][0].unique(dim=0)) == 3
