"""Checks of exercises 19: a small test that finds bugs, and functions with typical bugs."""

from collections.abc import Callable

import torch

from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_sees(sees: Callable, seed: int = 0) -> None:
    """sees(function, x (B, …), other (B, …)) → whether row 1 of the output depends on row 1 of x.

    It is False if any other row of the output depends on row 1, too.
    """
    x, other = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed))
    for function, truth, hint in (
        (lambda x: 2 * x, True, "This function doubles every row, so it sees its input."),
        (torch.zeros_like, False, "This function returns zeros, so it sees nothing."),
        (lambda x: x + x.mean(0), False, "Row 1 leaks into the other rows, which is a bug, too."),
        (lambda x: x.roll(1, 0), False, "Row 1 changes another row, but not its own."),
    ):
        answer = sees(function, x.clone(), other.clone())
        if not isinstance(answer, bool):
            raise CheckFailed(f"sees returned a {type(answer).__name__}. Return True or False.")
        if answer != truth:
            raise CheckFailed(f"sees: The answer should be {truth} for one function. {hint}")
    kept = x.clone()
    sees(lambda x: x, x, other)
    if not torch.equal(x, kept):
        raise CheckFailed("sees changes x in place. Change a copy, so that both can be compared.")
    print("sees: right")


def check_levels(levels: Callable, seed: int = 0) -> None:
    """levels(alpha_bar (T,), timesteps (steps,)) → (steps, 2), ᾱ before and after each step."""
    alpha_bar = Schedule(cosine_betas(20)).alpha_bar  # with few timesteps, ᾱ_0 is clearly below 1
    timesteps = torch.tensor([19, 12 + seed, 6, 0])
    here = alpha_bar[timesteps]
    shifted = torch.cat((torch.ones(1).double(), alpha_bar[:-1]))[timesteps]

    def pairs(starts: torch.Tensor, end: torch.Tensor | float) -> torch.Tensor:
        return torch.stack((starts, torch.cat((starts[1:], torch.tensor([float(end)])))), dim=1)

    truth = pairs(here, 1.0)
    nowhere = pairs(here, alpha_bar[0])
    mistakes = {
        "The last step ends where it begins, so it goes nowhere. It must end at 1.": nowhere,
        "The levels are one timestep beside those given to the network.": pairs(shifted, 1.0),
        "The last step ends at 0, which is pure noise. Clean is 1.": pairs(here, 0.0),
        "Beginning and end of each step are exchanged.": truth.flip(1),
        "The last step is missing. It goes from timestep 0 to the clean picture.": truth[:-1],
    }
    compare("levels", call("levels", levels, alpha_bar, timesteps), truth, mistakes)


def check_remembered(remembered: Callable, seed: int = 0) -> None:
    """remembered(steps, decay) → the share of the initial weights that is left in the average."""

    def product(steps: int, decay: float, first: int = 0, warm_up: bool = True) -> float:
        share = 1.0
        for n in range(first, first + steps):
            share *= min(decay, (1 + n) / (10 + n)) if warm_up else decay
        return share

    for steps, decay in ((1, 0.99), (3 + seed, 0.99), (20, 0.5)):
        truth = product(steps, decay)
        no_warm_up = product(steps, decay, warm_up=False)
        last_step = min(decay, steps / (9 + steps))
        mistakes = {
            "There is no warm-up. The first averages should follow quickly.": no_warm_up,
            "The steps are counted from 1. The first is n = 0.": product(steps, decay, 1),
            "This is the share of the new weights. Return that of the initial ones.": 1 - truth,
            "Only the decay of the last step counts. Multiply those of all.": last_step,
        }
        answer = float(remembered(steps, decay))
        compare(f"remembered({steps}, {decay})", answer, truth, mistakes)


def check_log_variance(log_variance: Callable, seed: int = 0) -> None:
    """log_variance(fraction, small, large) → log small for fraction -1, log large for 1."""
    generator = torch.Generator().manual_seed(seed)
    small = 10 ** (-4 - torch.rand(6, generator=generator))
    large, fraction = small * 50, torch.rand(6, generator=generator) * 2 - 1
    share = (fraction + 1) / 2
    truth = share * large.log() + (1 - share) * small.log()
    mixed_variances = (share * large + (1 - share) * small).log()
    variance = large**share * small ** (1 - share)
    no_share = fraction * large.log() + (1 - fraction) * small.log()
    exchanged = share * small.log() + (1 - share) * large.log()
    mistakes = {
        "Variances are mixed before the logarithm. Mix the logarithms.": mixed_variances,
        "The variance is returned. Return its logarithm.": variance,
        "The fraction is used as a share, but it runs from -1 to 1.": no_share,
        "Small and large are exchanged. Fraction 1 is the large one.": exchanged,
    }
    answer = call("log_variance", log_variance, fraction, small, large)
    compare("log_variance", answer, truth, mistakes)


def check_misfits(misfits: Callable, seed: int = 0) -> None:
    """misfits(model, file) → (missing, foreign), two sorted lists of names."""
    model = ["out.weight", "in.weight", "in.bias", f"layer{seed}.weight"]
    file = ["in.weight", "in.bias", "old.weight", "out.w"]
    missing, foreign = [f"layer{seed}.weight", "out.weight"], ["old.weight", "out.w"]
    unsorted = [n for n in model if n not in file], [n for n in file if n not in model]
    everything = sorted(model), sorted(file)
    mistakes = {
        "Missing and foreign are exchanged. Missing is what the file lacks.": (foreign, missing),
        "Foreign names are ignored. They can be layers under another name.": (missing, []),
        "All names are listed. List only those that do not fit.": everything,
        "The lists are not sorted.": unsorted,
    }
    compare("misfits", tuple(misfits(list(model), list(file))), (missing, foreign), mistakes)
    compare("misfits of a fitting file", tuple(misfits(list(model), list(model))), ([], []))
