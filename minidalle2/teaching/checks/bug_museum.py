"""Exercises of the bug museum: small tests that catch, and small functions that get it right."""

from collections.abc import Callable

import torch

from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_sees(sees: Callable, seed: int = 0) -> None:
    """sees(function, x, other) → True where row 1 of the output, and no other, follows row 1."""
    x, other = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed))
    for function, truth, hint in (
        (lambda x: 2 * x, True, "a function that doubles every row sees its input"),
        (torch.zeros_like, False, "a function that returns zeros sees nothing"),
        (lambda x: x + x.mean(0), False, "row 1 leaks into the others; that is a bug, too"),
        (lambda x: x.roll(1, 0), False, "row 1 changes another row and not its own"),
    ):
        answer = sees(function, x.clone(), other.clone())
        if not isinstance(answer, bool):
            raise CheckFailed(
                f"sees returned a {type(answer).__name__}; True or False is asked for"
            )
        if answer != truth:
            raise CheckFailed(f"sees: {hint}, and the answer should be {truth}")
    kept = x.clone()
    sees(lambda x: x, x, other)
    if not torch.equal(x, kept):
        raise CheckFailed("sees changes x in place; change a copy, or before and after are one")
    print("sees: right")


def check_levels(levels: Callable, seed: int = 0) -> None:
    """levels(alpha_bar, timesteps) → (steps, 2), ᾱ of where each step begins and where it ends."""
    alpha_bar = Schedule(cosine_betas(20)).alpha_bar  # short: its ᾱ_0 is plainly not 1
    timesteps = torch.tensor([19, 12 + seed, 6, 0])
    here = alpha_bar[timesteps]
    before = torch.cat((torch.ones(1).double(), alpha_bar[:-1]))[timesteps]

    def pairs(starts: torch.Tensor, end: torch.Tensor | float) -> torch.Tensor:
        return torch.stack((starts, torch.cat((starts[1:], torch.tensor([float(end)])))), dim=1)

    compare(
        "levels", call("levels", levels, alpha_bar, timesteps), pairs(here, 1.0),
        {
            "the last step ends where step 0 begins, so it goes nowhere; it must end at 1":
                pairs(here, alpha_bar[0]),
            "the levels are one timestep beside those that the network is told":
                pairs(before, 1.0),
            "the last step ends at 0, which is pure noise; clean is 1": pairs(here, 0.0),
            "beginning and end of each step are exchanged": pairs(here, 1.0).flip(1),
            "the last step is missing; it goes from step 0 to the clean picture":
                pairs(here, 1.0)[:-1],
        },
    )  # fmt: skip


def check_remembered(remembered: Callable, seed: int = 0) -> None:
    """remembered(steps, decay) → share of the initial weights, with a warm-up."""

    def product(steps: int, decay: float, first: int = 0, warm_up: bool = True) -> float:
        share = 1.0
        for n in range(first, first + steps):
            share *= min(decay, (1 + n) / (10 + n)) if warm_up else decay
        return share

    for steps, decay in ((1, 0.99), (3 + seed, 0.99), (20, 0.5)):
        truth = product(steps, decay)
        compare(
            f"remembered({steps}, {decay})", float(remembered(steps, decay)), truth,
            {
                "there is no warm-up; early averages should follow quickly":
                    product(steps, decay, warm_up=False),
                "steps are counted from 1; the first one has n = 0": product(steps, decay, 1),
                "what is new in the average is returned; what is left of the old is asked for":
                    1 - truth,
                "only the decay of the last step counts; all of them multiply":
                    min(decay, steps / (9 + steps)),
            },
        )  # fmt: skip


def check_log_variance(log_variance: Callable, seed: int = 0) -> None:
    """log_variance(fraction, small, large) → between log small (-1) and log large (1)."""
    generator = torch.Generator().manual_seed(seed)
    small = 10 ** (-4 - torch.rand(6, generator=generator))
    large, fraction = small * 50, torch.rand(6, generator=generator) * 2 - 1
    share = (fraction + 1) / 2
    compare(
        "log_variance", call("log_variance", log_variance, fraction, small, large),
        share * large.log() + (1 - share) * small.log(),
        {
            "variances are mixed, then their logarithm is taken; mix the logarithms":
                (share * large + (1 - share) * small).log(),
            "the variance is returned; its logarithm is asked for":
                large**share * small ** (1 - share),
            "the fraction is taken for the share, but it runs from -1 to 1":
                fraction * large.log() + (1 - fraction) * small.log(),
            "small and large are exchanged; 1 is the large one":
                share * small.log() + (1 - share) * large.log(),
        },
    )  # fmt: skip


def check_misfits(misfits: Callable, seed: int = 0) -> None:
    """misfits(model, file) → (missing, foreign) names, each a sorted list."""
    model = ["out.weight", "in.weight", "in.bias", f"layer{seed}.weight"]
    file = ["in.weight", "in.bias", "old.weight", "out.w"]
    missing, foreign = [f"layer{seed}.weight", "out.weight"], ["old.weight", "out.w"]
    compare(
        "misfits", tuple(misfits(list(model), list(file))), (missing, foreign),
        {
            "missing and foreign are exchanged; missing is what the file lacks":
                (foreign, missing),
            "foreign names are ignored; an old file may hold the layer under another name":
                (missing, []),
            "names that fit are listed, too": (sorted(model), sorted(file)),
            "the lists are not sorted": (
                [n for n in model if n not in file], [n for n in file if n not in model],
            ),
        },
    )  # fmt: skip
    compare("misfits of a fitting file", tuple(misfits(list(model), list(model))), ([], []))
