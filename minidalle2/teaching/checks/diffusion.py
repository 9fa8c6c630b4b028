"""Exercises 06: the forward process and steps back."""

from collections.abc import Callable

import torch

from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.teaching.checks.compare import call, compare


def _pair(seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """x0, eps and an ᾱ."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, 4, 3, generator=generator)
    return x0, eps, 0.3 + 0.4 * torch.rand((), generator=generator).item()


def check_add_noise(add_noise: Callable, seed: int = 0) -> None:
    """add_noise(x0, alpha_bar, eps) → x_t."""
    x0, eps, a = _pair(seed)
    compare(
        "add_noise", call("add_noise", add_noise, x0, a, eps), a**0.5 * x0 + (1 - a) ** 0.5 * eps,
        {
            "a square root is missing in both places; squares should add up to 1":
                a * x0 + (1 - a) * eps,
            "the noise lacks its square root": a**0.5 * x0 + (1 - a) * eps,
            "the signal lacks its square root": a * x0 + (1 - a) ** 0.5 * eps,
            "signal and noise are exchanged; ᾱ belongs to the signal":
                (1 - a) ** 0.5 * x0 + a**0.5 * eps,
            "the signal does not fade": x0 + (1 - a) ** 0.5 * eps,
        },
    )  # fmt: skip


def check_x0_from_eps(x0_from_eps: Callable, seed: int = 0) -> None:
    """x0_from_eps(x_t, alpha_bar, eps) → x0."""
    x0, eps, a = _pair(seed)
    x_t = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    compare(
        "x0_from_eps", call("x0_from_eps", x0_from_eps, x_t, a, eps), x0,
        {
            "the noise is gone, but the signal is still faded; divide":
                x_t - (1 - a) ** 0.5 * eps,
            "the noise is taken away in full; how much of it is in x_t?": (x_t - eps) / a**0.5,
            "the signal's factor lacks its square root": (x_t - (1 - a) ** 0.5 * eps) / a,
            "the noise is added once more": (x_t + (1 - a) ** 0.5 * eps) / a**0.5,
        },
    )  # fmt: skip


def check_ddim_step(ddim_step: Callable, seed: int = 0) -> None:
    """ddim_step(x_t, eps, here, there) → the state at the next noise level."""
    x0, eps, here = _pair(seed)
    there = (1 + here) / 2
    x_t = here**0.5 * x0 + (1 - here) ** 0.5 * eps
    compare(
        "ddim_step", call("ddim_step", ddim_step, x_t, eps, here, there),
        there**0.5 * x0 + (1 - there) ** 0.5 * eps,
        {
            "it goes all the way to x0; only to the next noise level": x0,
            "it stays where it is; use the level where it goes to": x_t,
            "x0 is scaled to the new level, but the noise to the old one":
                there**0.5 * x0 + (1 - here) ** 0.5 * eps,
            "the noise of the new level is missing": there**0.5 * x0,
        },
    )  # fmt: skip


def check_posterior_variance(posterior_variance: Callable, seed: int = 0) -> None:
    """posterior_variance(betas) → (T,) β̃ of every step."""
    betas = cosine_betas(50 + seed).double()
    schedule = Schedule(betas)
    alpha_bar = schedule.alpha_bar
    shifted = torch.cat((torch.ones(1, dtype=torch.float64), alpha_bar[:-1]))
    compare(
        "posterior_variance", call("posterior_variance", posterior_variance, betas),
        schedule.posterior_variance,
        {
            "that is β, the larger of the two bounds; knowing x0 makes it smaller": betas,
            "above and below the line are exchanged":
                betas * (1 - alpha_bar) / (1 - shifted).clamp(min=1e-20),
            "before the first step ᾱ is 1: nothing has been noised yet":
                betas * (1 - torch.cat((alpha_bar[:1], alpha_bar[:-1]))) / (1 - alpha_bar),
        },
    )  # fmt: skip


def check_v_target(v_target: Callable, seed: int = 0) -> None:
    """v_target(x0, alpha_bar, eps) → v."""
    x0, eps, a = _pair(seed)
    compare(
        "v_target", call("v_target", v_target, x0, a, eps), a**0.5 * eps - (1 - a) ** 0.5 * x0,
        {
            "the sign is turned round": (1 - a) ** 0.5 * x0 - a**0.5 * eps,
            "the factors are exchanged; v is at right angles to x_t":
                (1 - a) ** 0.5 * eps - a**0.5 * x0,
            "that is x_t; v is at right angles to it": a**0.5 * x0 + (1 - a) ** 0.5 * eps,
        },
    )  # fmt: skip
