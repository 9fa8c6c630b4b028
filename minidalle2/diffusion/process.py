"""The forward process, and what a network predicts: eps, x0 or v. Works on any shape (B, …).

x_t = √ᾱ x0 + √(1-ᾱ) eps;  v = √ᾱ eps - √(1-ᾱ) x0 (Salimans & Ho 2022).
"""

from torch import Tensor, nn

from minidalle2.diffusion.schedule import Schedule, at, spaced_timesteps

TARGETS = ("eps", "x0", "v")


class Diffusion(nn.Module):
    """A schedule, the target that a network is trained to predict, and where sampling ends.

    `lowest` is the smallest timestep that a sampler visits. The last step goes from there to the
    clean sample. A network that rarely saw small t in training needs a `lowest` above 0.
    """

    def __init__(self, schedule: Schedule, target: str, lowest: int = 0):
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; the targets are {', '.join(TARGETS)}")
        self.schedule = schedule
        self.target = target
        self.lowest = lowest

    def timesteps(self, steps: int) -> Tensor:
        """(steps,) timesteps to sample at, in descending order. Raises ValueError for too many."""
        return spaced_timesteps(len(self.schedule), steps, self.lowest)

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t in one step (Ho et al. 2020, equation 4)."""
        return at(self.schedule.signal, t, x0) * x0 + at(self.schedule.noise, t, x0) * eps

    def target_of(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The correct output of the network at x_t."""
        if self.target == "eps":
            return eps
        if self.target == "x0":
            return x0
        return at(self.schedule.signal, t, x0) * eps - at(self.schedule.noise, t, x0) * x0

    def x0_weight(self, t: Tensor, like: Tensor, cap: float = 10.0) -> Tensor:
        """The weight of a squared error of x0: 1 + SNR = 1 / (1-ᾱ), at most `cap`.

        With this weight an error of x0 counts like an error of v. The cap limits the weight near
        t = 0, where little is left to learn (Hang et al. 2023).
        """
        return (1 / at(self.schedule.noise, t, like) ** 2).clamp(max=cap)

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's output → its estimate of x0."""
        if self.target == "x0":
            return output
        signal, noise = at(self.schedule.signal, t, x_t), at(self.schedule.noise, t, x_t)
        if self.target == "eps":
            return (x_t - noise * output) / signal
        return signal * x_t - noise * output

    def to_eps(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise in x_t, given its clean sample x0."""
        return (x_t - at(self.schedule.signal, t, x_t) * x0) / at(self.schedule.noise, t, x_t)
