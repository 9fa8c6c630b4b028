"""Checks of exercises 06: the forward process and steps back."""

from collections.abc import Callable

import torch

from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.teaching.checks.compare import call, compare


def _pair(seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Returns x0 (4, 3), eps (4, 3) and a value of ᾱ between 0.3 and 0.7."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, 4, 3, generator=generator)
    return x0, eps, 0.3 + 0.4 * torch.rand((), generator=generator).item()


def check_add_noise(add_noise: Callable, seed: int = 0) -> None:
    """add_noise(x0, alpha_bar, eps) → x_t."""
    x0, eps, a = _pair(seed)
    signal, noise = a**0.5 * x0, (1 - a) ** 0.5 * eps
    no_roots = a * x0 + (1 - a) * eps
    exchanged = (1 - a) ** 0.5 * x0 + a**0.5 * eps
    mistakes = {
        "Both square roots are missing. Squares of the factors must add up to 1.": no_roots,
        "The factor of the noise lacks its square root.": signal + (1 - a) * eps,
        "The factor of the signal lacks its square root.": a * x0 + noise,
        "The factors are exchanged. ᾱ belongs to the signal.": exchanged,
        "The signal has no factor. It must get weaker.": x0 + noise,
    }
    compare("add_noise", call("add_noise", add_noise, x0, a, eps), signal + noise, mistakes)


def check_x0_from_eps(x0_from_eps: Callable, seed: int = 0) -> None:
    """x0_from_eps(x_t, alpha_bar, eps) → x0."""
    x0, eps, a = _pair(seed)
    noise = (1 - a) ** 0.5 * eps
    x_t = a**0.5 * x0 + noise
    mistakes = {
        "The noise is removed, but the signal is still too weak. Divide.": x_t - noise,
        "eps is subtracted without a factor. How much of it is in x_t?": (x_t - eps) / a**0.5,
        "The factor of the signal lacks its square root.": (x_t - noise) / a,
        "The noise is added. Subtract it.": (x_t + noise) / a**0.5,
    }
    compare("x0_from_eps", call("x0_from_eps", x0_from_eps, x_t, a, eps), x0, mistakes)


def check_ddim_step(ddim_step: Callable, seed: int = 0) -> None:
    """ddim_step(x_t, eps, here, there) → the state at the level ᾱ = `there`."""
    x0, eps, here = _pair(seed)
    there = (1 + here) / 2
    x_t = here**0.5 * x0 + (1 - here) ** 0.5 * eps
    signal, noise = there**0.5 * x0, (1 - there) ** 0.5 * eps
    old_noise = signal + (1 - here) ** 0.5 * eps
    mistakes = {
        "The step goes all the way to x0. It should end at the level `there`.": x0,
        "The state does not change. Use the level `there` for the result.": x_t,
        "x0 is scaled to the level `there`, but the noise to `here`.": old_noise,
        "The noise of the level `there` is missing.": signal,
    }
    answer = call("ddim_step", ddim_step, x_t, eps, here, there)
    compare("ddim_step", answer, signal + noise, mistakes)


def check_posterior_variance(posterior_variance: Callable, seed: int = 0) -> None:
    """posterior_variance(betas (T,)) → (T,), β̃ of every step."""
    betas = cosine_betas(50 + seed).double()
    schedule = Schedule(betas)
    alpha_bar = schedule.alpha_bar
    previous = torch.cat((torch.ones(1, dtype=torch.float64), alpha_bar[:-1]))
    inverted = betas * (1 - alpha_bar) / (1 - previous).clamp(min=1e-20)
    wrong_previous = torch.cat((alpha_bar[:1], alpha_bar[:-1]))
    noisy_start = betas * (1 - wrong_previous) / (1 - alpha_bar)
    mistakes = {
        "This is β, the larger of the two bounds. Knowing x0 makes it smaller.": betas,
        "Numerator and denominator are exchanged.": inverted,
        "ᾱ before the first step must be 1, because nothing is noised yet.": noisy_start,
    }
    answer = call("posterior_variance", posterior_variance, betas)
    compare("posterior_variance", answer, schedule.posterior_variance, mistakes)


def check_v_target(v_target: Callable, seed: int = 0) -> None:
    """v_target(x0, alpha_bar, eps) → v."""
    x0, eps, a = _pair(seed)
    v = a**0.5 * eps - (1 - a) ** 0.5 * x0
    x_t = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    exchanged = (1 - a) ** 0.5 * eps - a**0.5 * x0
    mistakes = {
        "The sign is reversed.": -v,
        "The factors are exchanged. v must be perpendicular to x_t.": exchanged,
        "This is x_t. v must be perpendicular to it.": x_t,
    }
    compare("v_target", call("v_target", v_target, x0, a, eps), v, mistakes)
