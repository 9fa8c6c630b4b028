"""Samplers: right with a right network at any step count, equal to diffusers, and invertible."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from minidalle2.diffusion.process import TARGETS, Diffusion
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, ddpm, last
from minidalle2.diffusion.schedule import Schedule, at, cosine_betas, linear_betas, spaced_timesteps
from minidalle2.manipulations.inversion import ddim_inversion

COSINE, LINEAR = Schedule(cosine_betas(1000)), Schedule(linear_betas(1000))
SHAPE = (2, 3, 4, 4)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answer(diffusion: Diffusion, x0: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor):
    """How a network says, in the language of its target, that it believes in x0."""
    return diffusion.target_of(x0, t, diffusion.to_eps(x0, x_t, t))


def knows(diffusion: Diffusion, x0: torch.Tensor):
    """The perfect denoiser of a data set with a single sample a row."""
    return lambda x_t, t: answer(diffusion, x0, x_t, t)


def two_bumps(diffusion: Diffusion, deviation: float = 0.3):
    """The perfect denoiser of pixels that are Gaussian around -1 or around 1: E[x0 | x_t]."""

    def denoise(x_t, t):
        signal, noise = at(diffusion.schedule.signal, t, x_t), at(diffusion.schedule.noise, t, x_t)
        variance = signal**2 * deviation**2 + noise**2
        bump = (signal * x_t / variance).tanh()
        x0 = bump + signal * deviation**2 / variance * (x_t - signal * bump)
        return answer(diffusion, x0, x_t, t)

    return denoise


def one_bump(diffusion: Diffusion, deviation: float):
    """The perfect denoiser of N(0, deviation²)."""

    def denoise(x_t, t):
        signal, noise = at(diffusion.schedule.signal, t, x_t), at(diffusion.schedule.noise, t, x_t)
        x0 = signal * deviation**2 / (signal**2 * deviation**2 + noise**2) * x_t
        return answer(diffusion, x0, x_t, t)

    return denoise


def smooth(x_t, t):
    """Some network: smooth, bounded, and different at every t."""
    return torch.tanh(x_t.flip(-1) * 0.7 + t.reshape(-1, 1, 1, 1) / 300) * 0.8


# The perfect denoiser


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("schedule", [COSINE, LINEAR], ids=["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("sampler", ["ddim", "ddim eta 1", "ddpm"])
def test_perfect_denoiser_gives_x0_back(sampler, steps, schedule, target):
    """e-11: the last step ends at ᾱ = 1, so nothing of the noise is left."""
    diffusion, x0 = Diffusion(schedule, target), normal(*SHAPE)
    x_T, noise = normal(*SHAPE, seed=1), Noise([0, 1])
    if sampler == "ddpm":
        states = ddpm(diffusion, knows(diffusion, x0), x_T, steps, noise)
    else:
        eta = float(sampler.endswith("1"))
        states = ddim(diffusion, knows(diffusion, x0), x_T, steps, eta=eta, noise=noise)
    torch.testing.assert_close(last(states), x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_gaussian_data_are_sampled_with_their_deviation(sampler, deviation):
    """With the perfect denoiser of N(0, s²), noise in gives N(0, s²) out."""
    diffusion, x_T = Diffusion(COSINE, "v"), normal(4, 5000)
    denoise = one_bump(diffusion, deviation)
    if sampler == "ddim":
        states = ddim(diffusion, denoise, x_T, 200)
    else:
        states = ddpm(diffusion, denoise, x_T, 200, Noise([0, 1, 2, 3]))
    assert last(states).std().item() == pytest.approx(deviation, rel=0.03)


# What a sampler does at each step


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 5, 27])
def test_network_hears_original_timesteps(sampler, steps):
    """e-7, e-11: T-1 first, 0 last, never the index within the kept steps; one call a step."""
    diffusion, heard = Diffusion(COSINE, "x0"), []

    def denoise(x_t, t):
        heard.append(t.tolist())
        return x_t

    x_T = normal(*SHAPE)
    states = (
        ddim(diffusion, denoise, x_T, steps)
        if sampler == "ddim"
        else ddpm(diffusion, denoise, x_T, steps, Noise([0, 1]))
    )
    seen = [state.t for state in states]
    expected = spaced_timesteps(1000, steps).tolist()
    assert seen == expected
    assert heard == [[t, t] for t in expected]


@pytest.mark.parametrize("lowest", [0, 20, 600])
@pytest.mark.parametrize("sampler", ["ddim", "ddim eta 1", "ddpm", "inversion"])
def test_every_sampler_ends_at_the_lowest_timestep(sampler, lowest):
    """No sampler visits a smaller t. From `lowest`, the last step leads to the clean sample."""
    diffusion, x0 = Diffusion(COSINE, "x0", lowest), normal(*SHAPE)
    x_T, noise = diffusion.add_noise(x0, torch.tensor([999]), normal(*SHAPE, seed=1)), Noise([0, 1])
    oracle = knows(diffusion, x0)
    if sampler == "inversion":
        states = list(ddim_inversion(diffusion, oracle, x0, 5))[::-1]
        ends = states[-1].x_t
    elif sampler == "ddpm":
        states = list(ddpm(diffusion, oracle, x_T, 5, noise))
        ends = states[-1].x_next
    else:
        states = list(ddim(diffusion, oracle, x_T, 5, eta=float("eta" in sampler), noise=noise))
        ends = states[-1].x_next
    assert [state.t for state in states] == spaced_timesteps(1000, 5, lowest).tolist()
    assert states[-1].t == lowest
    torch.testing.assert_close(ends, x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_states_are_a_chain(sampler):
    """Every state is yielded, each goes on where the one before ended, the last ends at x0."""
    diffusion, x_T = Diffusion(COSINE, "v"), normal(*SHAPE)
    states = list(
        ddim(diffusion, smooth, x_T, 6)
        if sampler == "ddim"
        else ddpm(diffusion, smooth, x_T, 6, Noise([0, 1]))
    )
    assert states[0].x_t is x_T
    for before, after in zip(states, states[1:], strict=False):
        assert before.x_next is after.x_t
    assert torch.equal(states[-1].x_next, states[-1].x0)
    assert all(s.x_t.shape == s.x0.shape == s.x_next.shape == SHAPE for s in states)


def test_ddim_writes_the_level_it_tells_the_network():
    """e-11: x_next holds as much signal as ᾱ of the next timestep says."""
    diffusion, x0 = Diffusion(COSINE, "x0"), normal(*SHAPE)
    eps = normal(*SHAPE, seed=1)
    x_T = diffusion.add_noise(x0, torch.tensor([999, 999]), eps)
    states = list(ddim(diffusion, knows(diffusion, x0), x_T, 10))
    for state in states:
        t = torch.full((2,), state.t)
        torch.testing.assert_close(state.x_t, diffusion.add_noise(x0, t, eps), atol=1e-3, rtol=0)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_only_x0_is_clipped(sampler):
    """e-35: estimates of x0 stay in [-1, 1], x_t goes beyond; eps follows the clipped x0."""
    diffusion, x_T = Diffusion(COSINE, "v"), normal(*SHAPE)
    far = knows(diffusion, torch.full(SHAPE, 3.0, dtype=torch.float64))
    states = list(
        ddim(diffusion, far, x_T, 8, clip_to_image)
        if sampler == "ddim"
        else ddpm(diffusion, far, x_T, 8, Noise([0, 1]), clip_to_image)
    )
    assert max(state.x0.abs().max() for state in states) <= 1
    assert max(state.x_t.abs().max() for state in states) > 1.2
    assert (states[-1].x_next == 1).all()


def test_ddim_with_eta_one_is_ddpm():
    """e-12: over all steps, the same noise makes the same mean and the same variance."""
    diffusion, x_T = Diffusion(Schedule(cosine_betas(60)), "v"), normal(*SHAPE)
    a = ddim(diffusion, smooth, x_T, 60, eta=1.0, noise=Noise([0, 1]))
    b = ddpm(diffusion, smooth, x_T, 60, Noise([0, 1]))
    for ours, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(ours.x_next, theirs.x_next, atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [10, 100])
def test_ddim_with_eta_one_is_respaced_ddpm(steps):
    """e-7, e-12: on kept steps too, where betas are recomputed."""
    diffusion, x_T = Diffusion(COSINE, "x0"), normal(*SHAPE)
    a = last(ddim(diffusion, smooth, x_T, steps, eta=1.0, noise=Noise([0, 1])))
    b = last(ddpm(diffusion, smooth, x_T, steps, Noise([0, 1])))
    torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def test_eta_zero_is_deterministic_and_eta_one_is_not():
    """e-12: the argument is heard."""
    diffusion, x_T = Diffusion(COSINE, "v"), normal(*SHAPE)
    still = [last(ddim(diffusion, smooth, x_T, 5, noise=Noise([s, s + 1]))) for s in (0, 5)]
    moved = [
        last(ddim(diffusion, smooth, x_T, 5, eta=1.0, noise=Noise([s, s + 1]))) for s in (0, 5)
    ]
    assert torch.equal(*still)
    assert (moved[0] - moved[1]).abs().max() > 0.01


@pytest.mark.parametrize(("fraction", "table"), [(-1.0, "posterior_variance"), (1.0, "betas")])
def test_ddpm_uses_the_learned_variance(fraction, table):
    """e-5: where the network answers twice the channels; at -1 it is the small fixed one."""
    diffusion, x_T, rows = Diffusion(COSINE, "x0"), torch.zeros(1, 3, 40, 40), Noise([0])
    denoise = lambda x, t: torch.cat((torch.zeros_like(x), torch.full_like(x, fraction)), dim=1)  # noqa: E731
    first = next(ddpm(diffusion, denoise, x_T, 1000, rows))
    expected = getattr(COSINE, table)[999].sqrt().item()
    assert first.x_next.std().item() == pytest.approx(expected, rel=0.05)


# Against diffusers


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """To a thousandth of the largest value: eps divides by 5e-5 at the noisy end of the cosine."""
    return (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


THEIR_TARGET = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
CASES = {
    "cosine": (cosine_betas(50), {"beta_schedule": "squaredcos_cap_v2"}),
    "linear": (linear_betas(50), {"beta_start": 0.002, "beta_end": 0.4}),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(eta, case, target):
    """Step by step. Over all T steps only: on fewer, theirs takes a stride of T // n that meets
    T-1 or 0 but not both (e-11), and tells the network another level than it writes."""
    betas, theirs = CASES[case]
    reference = DDIMScheduler(
        50, prediction_type=THEIR_TARGET[target], clip_sample=False, set_alpha_to_one=True, **theirs
    )
    reference.set_timesteps(50)
    noise, drawn = Noise([0, 1]), Noise([0, 1])
    x = normal(*SHAPE).float()
    for state in ddim(Diffusion(Schedule(betas), target), smooth, x, 50, eta=eta, noise=noise):
        t = torch.full((2,), state.t)
        # Theirs adds no noise at the last step either; it still wants some to be given.
        variance_noise = drawn(*SHAPE[1:]) if eta else None
        step = reference.step(
            smooth(state.x_t, t), state.t, state.x_t, eta=eta, variance_noise=variance_noise
        )
        assert close(state.x0, step.pred_original_sample)
        assert close(state.x_next, step.prev_sample)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("schedule", [COSINE, LINEAR], ids=["cosine", "linear"])
@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("steps", [7, 30])
def test_ddpm_equals_diffusers(steps, learned, schedule, target):
    """e-5, e-7: on a respaced schedule, step by step, with fixed small and learned variance."""
    reference = DDPMScheduler(
        1000,
        prediction_type=THEIR_TARGET[target],
        clip_sample=False,
        timestep_spacing="linspace",
        beta_schedule="linear" if schedule is LINEAR else "squaredcos_cap_v2",
        variance_type="learned_range" if learned else "fixed_small",
    )
    reference.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)

    def denoise(x, t):
        prediction = smooth(x, t)
        return torch.cat((prediction, prediction.flip(1)), dim=1) if learned else prediction

    x = normal(1, *SHAPE[1:]).float()
    states = list(ddpm(Diffusion(schedule, target), denoise, x, steps, Noise([0])))
    assert [state.t for state in states] == reference.timesteps.tolist()
    for state in states:
        output = denoise(state.x_t, torch.tensor([state.t]))
        step = reference.step(output, state.t, state.x_t, generator=generator)
        assert close(state.x0, step.pred_original_sample)
        assert close(state.x_next, step.prev_sample)


# Inversion


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_inversion_of_a_known_noise_is_exact(steps):
    """e-40: a network that knows the noise of its picture leads to x_T = √ᾱ x0 + √(1-ᾱ) eps."""
    diffusion, x0, eps = Diffusion(LINEAR, "eps"), normal(*SHAPE), normal(*SHAPE, seed=1)
    oracle = lambda x_t, t: eps  # noqa: E731
    states = list(ddim_inversion(diffusion, oracle, x0, steps))
    expected = diffusion.add_noise(x0, torch.tensor([999, 999]), eps)
    torch.testing.assert_close(states[-1].x_next, expected, atol=1e-5, rtol=0)
    back = last(ddim(diffusion, oracle, states[-1].x_next, steps))
    torch.testing.assert_close(back, x0, atol=1e-3, rtol=0)


def test_inversion_visits_the_sampler_s_timesteps_backwards():
    """e-40: from clean to T-1, every state yielded, no clipping on the way."""
    diffusion, x0 = Diffusion(COSINE, "v"), 3 * normal(*SHAPE)
    states = list(ddim_inversion(diffusion, two_bumps(diffusion), x0, 9))
    assert [state.t for state in states] == spaced_timesteps(1000, 9).flip(0).tolist()
    assert states[0].x_t is x0
    assert max(state.x0.abs().max() for state in states) > 2


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_inverted_gaussian_data_are_standard_noise(deviation):
    """e-40: the x_T of N(0, s²) data under their perfect denoiser is x0 / s."""
    diffusion, x0 = Diffusion(COSINE, "v"), deviation * normal(4, 100)
    x_T = last(ddim_inversion(diffusion, one_bump(diffusion, deviation), x0, 500))
    torch.testing.assert_close(x_T, x0 / deviation, rtol=0.03, atol=0.01)


def round_trip_error(target: str, steps: int, refinements: int) -> float:
    diffusion, x0 = Diffusion(COSINE, target), 1.2 * normal(*SHAPE)
    denoise = two_bumps(diffusion)
    x_T = last(ddim_inversion(diffusion, denoise, x0, steps, refinements))
    return (last(ddim(diffusion, denoise, x_T, steps)) - x0).square().mean().sqrt().item()


@pytest.mark.parametrize("target", TARGETS)
def test_round_trip(target):
    """e-40: inverting, then sampling, is the identity up to the steps' size; refining mends it."""
    coarse, fine = round_trip_error(target, 25, 0), round_trip_error(target, 200, 0)
    refined = round_trip_error(target, 25, 20)
    assert fine < coarse / 3 and fine < 0.05
    assert refined < coarse / 10


# Noise


def test_a_sample_does_not_depend_on_its_batch():
    """e-44: one generator a sample; neighbours and batch size change nothing."""
    together, alone = Noise([3, 5, 8]), Noise([5])
    for _ in range(2):
        assert torch.equal(together(3, 2, 2)[1], alone(3, 2, 2)[0])


def test_noise_is_new_at_every_call_and_for_every_seed():
    """e-44: same seed same noise, other seed other noise."""
    noise = Noise([0, 1])
    first, second = noise(1000), noise(1000)
    assert first.shape == (2, 1000)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert torch.equal(first, Noise([0, 1])(1000))
    assert first.mean().abs() < 0.1 and abs(first.std() - 1) < 0.1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_start_is_not_mutated(sampler):
    """e-10"""
    diffusion, x_T = Diffusion(COSINE, "v"), normal(*SHAPE)
    copy = x_T.clone()
    last(
        ddim(diffusion, smooth, x_T, 3)
        if sampler == "ddim"
        else ddpm(diffusion, smooth, x_T, 3, Noise([0, 1]))
    )
    last(ddim_inversion(diffusion, smooth, x_T, 3, 2))
    assert torch.equal(x_T, copy)
