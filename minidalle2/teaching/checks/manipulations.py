"""Exercises 12: a step of DDIM backwards, the way along the circle, a text diff, and RePaint."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.manipulations.interpolation import slerp
from minidalle2.manipulations.text_diff import turn
from minidalle2.teaching.checks.compare import call, compare


def check_step_up(step_up: Callable, seed: int = 0) -> None:
    """step_up(x, x0, here, there) → the state at the noisier level `there`."""
    generator = torch.Generator().manual_seed(seed)
    x, x0 = torch.randn(2, 2, 3, 4, 4, generator=generator)
    here, there = 0.8 - 0.1 * seed, 0.3
    eps = (x - there**0.5 * x0) / (1 - there) ** 0.5
    clean = (x - (1 - here) ** 0.5 * eps) / here**0.5
    eps_here = (x - here**0.5 * x0) / (1 - here) ** 0.5
    compare(
        "step_up", call("step_up", step_up, x, x0, here, there),
        there**0.5 * clean + (1 - there) ** 0.5 * eps,
        {
            "nothing moves: noise and x0 were taken from x at `there`, and are put together again "
            "there; with that noise ask what is clean at `here`": x,
            "the noise is that of x at `here`; the network was asked at `there`":
                there**0.5 * x0 + (1 - there) ** 0.5 * eps_here,
            "the levels are exchanged; this goes down": _step(x, x0, there, here),
            "the state is scaled to the new level, but its noise stays as strong as at `here`":
                there**0.5 * clean + (1 - here) ** 0.5 * eps,
            "ᾱ lacks its square roots": _step_without_roots(x, x0, here, there),
        },
    )  # fmt: skip


def _step(x: Tensor, x0: Tensor, here: float, there: float) -> Tensor:
    eps = (x - there**0.5 * x0) / (1 - there) ** 0.5
    clean = (x - (1 - here) ** 0.5 * eps) / here**0.5
    return there**0.5 * clean + (1 - there) ** 0.5 * eps


def _step_without_roots(x: Tensor, x0: Tensor, here: float, there: float) -> Tensor:
    eps = (x - there * x0) / (1 - there)
    clean = (x - (1 - here) * eps) / here
    return there * clean + (1 - there) * eps


def check_slerp(slerped: Callable, seed: int = 0) -> None:
    """slerp(a, b, theta) of unit rows (N, E) → (N, E) unit rows."""
    a, b = _arrows(2, seed)
    theta = 0.3 + 0.1 * seed
    line = torch.lerp(a, b, theta)
    cosine = (a * b).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    sines = torch.sin((1 - theta) * angle) * a + torch.sin(theta * angle) * b
    compare(
        "slerp", call("slerp", slerped, a, b, theta), slerp(a, b, theta),
        {
            "that is the straight line, whose middle is shorter than 1": line,
            "the straight line brought back to length 1 hurries in the middle; turn by equal "
            "angles": F.normalize(line, dim=-1),
            "the ends are exchanged: theta 0 is a": slerp(b, a, theta),
            "the sines are not divided by that of the whole angle": sines,
            "the cosine is taken for the angle": _by_sines(a, b, theta, cosine),
            "there is one angle for all rows; each has its own":
                _by_sines(a, b, theta, angle.mean()),
        },
    )  # fmt: skip


def _by_sines(a: Tensor, b: Tensor, theta: float, angle: Tensor) -> Tensor:
    return (torch.sin((1 - theta) * angle) * a + torch.sin(theta * angle) * b) / torch.sin(angle)


def check_edited(edited: Callable, seed: int = 0) -> None:
    """edited(z_i, z_old, z_new, theta, slerp) → unit rows (N, E); the slerp that is handed over is
    that of sines, which does need unit vectors."""
    z_i, z_old, z_new = _arrows(3, seed)
    theta = 0.2 + 0.1 * seed
    difference = z_new - z_old
    z_d = F.normalize(difference, dim=-1)
    compare(
        "edited", call("edited", edited, z_i, z_old, z_new, theta, _strict_slerp),
        turn(z_i, z_d, theta),
        {
            "z_i is turned to the new caption itself, and the old one is forgotten":
                slerp(z_i, z_new, theta),
            "the direction leads from the new caption to the old one": turn(z_i, -z_d, theta),
            "the difference is not of length 1, so its angle to z_i comes out wrong":
                _strict_slerp(z_i, difference, theta),
            "z_d is added; the arrow is no longer of length 1": z_i + theta * z_d,
            "the difference is added; the arrow is no longer of length 1":
                z_i + theta * difference,
            "z_d is added and the sum brought to length 1; turn it along the circle":
                F.normalize(z_i + theta * z_d, dim=-1),
            "theta is that of z_d's end: 0 shall be z_i": slerp(z_d, z_i, theta),
        },
    )  # fmt: skip


def _strict_slerp(a: Tensor, b: Tensor, theta: float) -> Tensor:
    """By the quotient of sines, right for unit vectors alone."""
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    return _by_sines(a, b, theta, torch.acos(cosine))


def check_put_back(put_back: Callable, seed: int = 0) -> None:
    """put_back(unknown, image, known, eps, there) → RePaint's state at the level `there`."""
    generator = torch.Generator().manual_seed(seed)
    unknown, image, eps = torch.randn(3, 2, 3, 4, 4, generator=generator)
    known = torch.rand(2, 1, 4, 4, generator=generator) < 0.5
    there = 0.4 + 0.1 * seed
    noised = there**0.5 * image + (1 - there) ** 0.5 * eps
    compare(
        "put_back", call("put_back", put_back, unknown, image, known, eps, there),
        torch.where(known, noised, unknown),
        {
            "the true picture is put back clean, among pixels that are noisy; the network would "
            "take it for noise": torch.where(known, image, unknown),
            "the mask is turned round: known pixels are drawn, and those to draw are given":
                torch.where(known, unknown, noised),
            "ᾱ lacks its square roots":
                torch.where(known, there * image + (1 - there) * eps, unknown),
            "noise is laid over the picture in full; scale both":
                torch.where(known, image + eps, unknown),
            "what was drawn is noised once more; it is at that level already":
                torch.where(known, noised, there**0.5 * unknown + (1 - there) ** 0.5 * eps),
        },
    )  # fmt: skip


def _arrows(n: int, seed: int) -> Tensor:
    """(n, 5, 6) unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, 5, 6, generator=generator), dim=-1)
