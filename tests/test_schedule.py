"""Schedules: the constants that reproductions get wrong, and which timesteps a sampler visits."""

import pytest
import torch
from diffusers import DDPMScheduler

from minidalle2.diffusion.schedule import (
    MAX_BETA,
    Schedule,
    at,
    cosine_betas,
    linear_betas,
    respace,
    spaced_timesteps,
)

BETAS = {"cosine": cosine_betas, "linear": linear_betas}


def test_cosine_constants():
    """e-1: four numbers of T = 1000, in float64."""
    betas = cosine_betas(1000)
    assert betas.dtype == torch.float64
    assert betas[0].item() == pytest.approx(4.128e-5, rel=1e-3)
    assert betas[998].item() == pytest.approx(0.750, abs=1e-3)
    assert (betas == MAX_BETA).nonzero().flatten().tolist() == [999]
    assert Schedule(betas).alpha_bar[999].item() == pytest.approx(2.43e-9, rel=1e-2)


def test_linear_is_rescaled():
    """e-2: at T = 50 the last beta is .4, and any T ends about as noisy as 1,000 steps."""
    assert linear_betas(1000)[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert linear_betas(50)[-1].item() == pytest.approx(0.4)
    assert Schedule(linear_betas(50)).signal[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 10, 19, 20])
def test_linear_refuses_few_steps(steps):
    """e-2: at T = 20 a beta reaches 1, below it passes 1; the message names the way out."""
    with pytest.raises(ValueError, match="more than 20 timesteps.*cosine"):
        linear_betas(steps)


@pytest.mark.parametrize("betas", [linear_betas(21), cosine_betas(2), cosine_betas(1000)])
def test_every_table_is_finite(betas):
    """e-2: at the shortest schedules too."""
    schedule = Schedule(betas)
    tables = {"alpha_bar": schedule.alpha_bar, **dict(schedule.named_buffers())}
    assert len(tables) == 10
    for name, values in tables.items():
        exact = torch.float64 if name == "alpha_bar" else torch.float32
        assert values.shape == (len(betas),) and values.dtype == exact, name
        assert values.isfinite().all(), name


def test_no_table_is_saved():
    """Every table follows from the betas, so checkpoints contain none of them."""
    assert not Schedule(cosine_betas(1000)).state_dict()


def test_alpha_bar_stays_exact_when_the_others_move():
    schedule = Schedule(cosine_betas(1000))
    exact = schedule.alpha_bar.clone()
    schedule.to("meta")
    assert all(table.device.type == "meta" for table in schedule.buffers())
    assert torch.equal(schedule.alpha_bar, exact)


@pytest.mark.parametrize(("name", "left"), [("linear", 0.00635), ("cosine", 4.9e-5)])
def test_signal_left_at_the_end(name, left):
    """e-3: x_T is only almost pure noise; linear leaves more of the picture than cosine."""
    assert Schedule(BETAS[name](1000)).signal[-1].item() == pytest.approx(left, rel=0.01)


@pytest.mark.parametrize("name", BETAS)
def test_posterior_log_variance_at_zero(name):
    """e-4: the value of t = 1 stands in for log 0; no -46 of log 1e-20."""
    schedule = Schedule(BETAS[name](1000))
    assert schedule.posterior_variance[0] == 0
    assert schedule.posterior_log_variance[0] == schedule.posterior_log_variance[1]
    assert schedule.posterior_log_variance[0] > -12
    torch.testing.assert_close(
        schedule.posterior_log_variance[1:].exp(), schedule.posterior_variance[1:]
    )


@pytest.mark.parametrize(
    "variance_per_dimension, crossing", [(1 / 512, 21), (0.2889, 308), (1, 496)]
)
def test_where_noise_overtakes_the_embedding(variance_per_dimension, crossing):
    """e-9: the timestep where the SNR of a scaled embedding falls below 1, for three scales."""
    schedule = Schedule(cosine_betas(1000))
    snr = schedule.signal**2 * variance_per_dimension / schedule.noise**2
    assert (snr < 1).int().argmax().item() == pytest.approx(crossing, abs=1)


@pytest.mark.parametrize(
    ("name", "theirs", "ends"),
    [
        ("cosine", "squaredcos_cap_v2", {}),
        ("linear", "linear", {"beta_start": 1e-4, "beta_end": 0.02}),
    ],
)
def test_equal_to_diffusers(name, theirs, ends):
    """Betas and ᾱ of both schedules. Theirs is computed in float32, hence the tolerance."""
    reference = DDPMScheduler(1000, beta_schedule=theirs, **ends)
    schedule = Schedule(BETAS[name](1000))
    torch.testing.assert_close(schedule.betas, reference.betas, rtol=1e-5, atol=1e-9)
    theirs = reference.alphas_cumprod.double()
    torch.testing.assert_close(schedule.alpha_bar, theirs, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("steps", [2, 10, 27, 64, 250, 999, 1000])
def test_first_and_last_timestep(steps):
    """e-11: T-1 and 0 are visited whatever the number of steps, and no timestep twice."""
    timesteps = spaced_timesteps(1000, steps)
    assert len(timesteps) == steps
    assert timesteps[0] == 999 and timesteps[-1] == 0
    assert (timesteps.diff() < 0).all()


def test_one_step_starts_at_noise():
    assert spaced_timesteps(1000, 1).tolist() == [999]


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts(steps):
    with pytest.raises(ValueError, match=f"take {steps} sampling steps; .* allows 1 to 1000$"):
        spaced_timesteps(1000, steps)


@pytest.mark.parametrize("name", BETAS)
@pytest.mark.parametrize("steps", [2, 27, 1000])
def test_respacing_recomputes_betas(name, steps):
    """e-7: the kept steps have the ᾱ they had, hence other betas."""
    schedule = Schedule(BETAS[name](1000))
    timesteps = spaced_timesteps(1000, steps)
    kept = respace(schedule, timesteps)
    original = schedule.alpha_bar[timesteps.flip(0)]
    torch.testing.assert_close(kept.alpha_bar, original)
    previous = torch.cat((torch.ones(1), original[:-1]))
    torch.testing.assert_close(kept.betas, (1 - original / previous).float())
    if steps == 1000:
        torch.testing.assert_close(kept.betas, schedule.betas)


@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 3, 4, 4)])
def test_at_broadcasts(shape):
    """values (T,), t (B,) → (B, 1, …), one value a row."""
    picked = at(torch.arange(10.0), torch.tensor([7, 2]), torch.zeros(shape))
    assert picked.shape == (2, *[1] * (len(shape) - 1))
    assert picked.flatten().tolist() == [7, 2]
