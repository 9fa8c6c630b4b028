"""The forward process and what a network may predict of it: eps, x0 or v. Any shape (B, …).

x_t = √ᾱ x0 + √(1-ᾱ) eps;  v = √ᾱ eps - √(1-ᾱ) x0 (Salimans & Ho 2022).
"""

from torch import Tensor

from minidalle2.diffusion.schedule import Schedule, at

TARGETS = ("eps", "x0", "v")


class Diffusion:
    """A schedule and the target that the networks of a stage predict."""

    def __init__(self, schedule: Schedule, target: str):
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
        self.schedule = schedule
        self.target = target

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Ho et al. 2020, equation 4: x_t in one jump."""
        return at(self.schedule.signal, t, x0) * x0 + at(self.schedule.noise, t, x0) * eps

    def target_of(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """What the network should answer at x_t."""
        if self.target == "eps":
            return eps
        if self.target == "x0":
            return x0
        return at(self.schedule.signal, t, x0) * eps - at(self.schedule.noise, t, x0) * x0

    def x0_weight(self, t: Tensor, like: Tensor, cap: float = 10.0) -> Tensor:
        """1 + SNR = 1 / (1-ᾱ), capped: what makes an error of x0 count like one of v, but not more
        near the clean end, where there is little left to decide (Hang et al. 2023)."""
        return (1 / at(self.schedule.noise, t, like) ** 2).clamp(max=cap)

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's answer as an estimate of x0."""
        if self.target == "x0":
            return output
        signal, noise = at(self.schedule.signal, t, x_t), at(self.schedule.noise, t, x_t)
        if self.target == "eps":
            return (x_t - noise * output) / signal
        return signal * x_t - noise * output

    def to_eps(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that x_t would hold, were x0 the clean sample."""
        return (x_t - at(self.schedule.signal, t, x_t) * x0) / at(self.schedule.noise, t, x_t)
