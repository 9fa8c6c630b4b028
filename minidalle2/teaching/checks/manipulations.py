"""Checks of exercises 12: DDIM inversion, spherical interpolation, a text diff, and RePaint."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.manipulations.interpolation import slerp
from minidalle2.manipulations.text_diff import turn
from minidalle2.teaching.checks.compare import call, compare


def check_step_up(step_up: Callable, seed: int = 0) -> None:
    """step_up(x, x0, here, there) → the state at the noisier level ᾱ = `there`."""
    generator = torch.Generator().manual_seed(seed)
    x, x0 = torch.randn(2, 2, 3, 4, 4, generator=generator)
    here, there = 0.8 - 0.1 * seed, 0.3
    eps = (x - there**0.5 * x0) / (1 - there) ** 0.5
    clean = (x - (1 - here) ** 0.5 * eps) / here**0.5
    eps_here = (x - here**0.5 * x0) / (1 - here) ** 0.5
    noise_of_here = there**0.5 * x0 + (1 - there) ** 0.5 * eps_here
    downwards = _step(x, x0, there, here)
    old_noise = there**0.5 * clean + (1 - here) ** 0.5 * eps
    no_roots = _step_without_roots(x, x0, here, there)
    mistakes = {
        "Nothing moves. Remove the noise from x at the level `here`, not `there`.": x,
        "The noise is that of x at `here`. The network was asked at `there`.": noise_of_here,
        "`here` and `there` are exchanged, so the step goes down.": downwards,
        "The picture is scaled to the level `there`, but the noise to `here`.": old_noise,
        "The square roots of ᾱ are missing.": no_roots,
    }
    answer = call("step_up", step_up, x, x0, here, there)
    compare("step_up", answer, _step(x, x0, here, there), mistakes)


def _step(x: Tensor, x0: Tensor, here: float, there: float) -> Tensor:
    eps = (x - there**0.5 * x0) / (1 - there) ** 0.5
    clean = (x - (1 - here) ** 0.5 * eps) / here**0.5
    return there**0.5 * clean + (1 - there) ** 0.5 * eps


def _step_without_roots(x: Tensor, x0: Tensor, here: float, there: float) -> Tensor:
    eps = (x - there * x0) / (1 - there)
    clean = (x - (1 - here) * eps) / here
    return there * clean + (1 - there) * eps


def check_slerp(slerped: Callable, seed: int = 0) -> None:
    """slerp(a (N, E), b (N, E), theta) → (N, E). All rows are of unit length."""
    a, b = _unit_vectors(2, seed)
    theta = 0.3 + 0.1 * seed
    line = torch.lerp(a, b, theta)
    cosine = (a * b).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    sines = torch.sin((1 - theta) * angle) * a + torch.sin(theta * angle) * b
    cosine_as_angle = _by_sines(a, b, theta, cosine)
    one_angle = _by_sines(a, b, theta, angle.mean())
    mistakes = {
        "This is a straight line. Its middle is shorter than 1.": line,
        "The straight line is normalised. It turns faster in the middle.": F.normalize(
            line, dim=-1
        ),
        "a and b are exchanged. theta 0 must give a.": slerp(b, a, theta),
        "The sum is not divided by the sine of the whole angle.": sines,
        "The cosine is used as the angle.": cosine_as_angle,
        "All rows use the same angle. Each row has its own.": one_angle,
    }
    compare("slerp", call("slerp", slerped, a, b, theta), slerp(a, b, theta), mistakes)


def _by_sines(a: Tensor, b: Tensor, theta: float, angle: Tensor) -> Tensor:
    return (torch.sin((1 - theta) * angle) * a + torch.sin(theta * angle) * b) / torch.sin(angle)


def check_edited(edited: Callable, seed: int = 0) -> None:
    """edited(z_i, z_old, z_new, theta, slerp) → (N, E). All rows are of unit length.

    The slerp that it is given divides by a sine. It is therefore wrong for other lengths.
    """
    z_i, z_old, z_new = _unit_vectors(3, seed)
    theta = 0.2 + 0.1 * seed
    difference = z_new - z_old
    z_d = F.normalize(difference, dim=-1)
    to_difference = _strict_slerp(z_i, difference, theta)
    normalised = F.normalize(z_i + theta * z_d, dim=-1)
    mistakes = {
        "z_i turns to the new caption. The old caption is not used.": slerp(z_i, z_new, theta),
        "The direction leads from the new caption to the old one.": turn(z_i, -z_d, theta),
        "The difference is not of unit length, so its angle to z_i is wrong.": to_difference,
        "z_d is added. The result is not of unit length.": z_i + theta * z_d,
        "The difference is added. The result is not of unit length.": z_i + theta * difference,
        "z_d is added and the sum normalised. Turn along the circle instead.": normalised,
        "z_i and z_d are exchanged. theta 0 must give z_i.": slerp(z_d, z_i, theta),
    }
    answer = call("edited", edited, z_i, z_old, z_new, theta, _strict_slerp)
    compare("edited", answer, turn(z_i, z_d, theta), mistakes)


def _strict_slerp(a: Tensor, b: Tensor, theta: float) -> Tensor:
    """Spherical interpolation by a quotient of sines, which is right for unit vectors only."""
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    return _by_sines(a, b, theta, torch.acos(cosine))


def check_put_back(put_back: Callable, seed: int = 0) -> None:
    """put_back(unknown, image, known, eps, there) → RePaint's state at the level ᾱ = `there`.

    All are (B, 3, S, S), except known (B, 1, S, S) and the number there.
    """
    generator = torch.Generator().manual_seed(seed)
    unknown, image, eps = torch.randn(3, 2, 3, 4, 4, generator=generator)
    known = torch.rand(2, 1, 4, 4, generator=generator) < 0.5
    there = 0.4 + 0.1 * seed
    noised = there**0.5 * image + (1 - there) ** 0.5 * eps
    noised_again = there**0.5 * unknown + (1 - there) ** 0.5 * eps
    clean = torch.where(known, image, unknown)
    inverted = torch.where(known, unknown, noised)
    no_roots = torch.where(known, there * image + (1 - there) * eps, unknown)
    no_factors = torch.where(known, image + eps, unknown)
    twice = torch.where(known, noised, noised_again)
    mistakes = {
        "The image is put back clean. All pixels must have the same noise level.": clean,
        "The mask is inverted. The known pixels are replaced by drawn ones.": inverted,
        "The square roots of ᾱ are missing.": no_roots,
        "The image and the noise are added without factors.": no_factors,
        "The drawn pixels are noised again. They have the level `there` already.": twice,
    }
    answer = call("put_back", put_back, unknown, image, known, eps, there)
    compare("put_back", answer, torch.where(known, noised, unknown), mistakes)


def _unit_vectors(n: int, seed: int) -> Tensor:
    """(n, 5, 6) unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, 5, 6, generator=generator), dim=-1)
