"""Exercises 14: how many pictures are enough, how far two sets are apart, what a set lacks, and how
different its pictures are."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.evaluation.precision_recall import precision_and_recall, share_on_manifold
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_enough(enough: Callable, seed: int = 0) -> None:
    """enough(half) → the fewest pictures of which, whatever the share, 1.96 standard errors are
    at most `half`."""
    for half in ((0.1, 0.03, 0.5), (0.05, 0.02, 0.4))[seed % 2]:
        answer, exact = call("enough", enough, half), (1.96 * 0.5 / half) ** 2
        truth = math.ceil(exact - 1e-9)
        if not isinstance(answer, int | float):
            compare("enough", answer, truth)  # says what is wrong with its kind
        hints = {
            math.floor(exact): "half a picture short of enough is not enough; round up",
            math.ceil((1.96 / half) ** 2): "a share has the variance p (1 - p), a quarter at most",
            math.ceil(0.25 / half**2): "one standard error holds two thirds; 1.96 of them 95 %",
            math.ceil((1.96 * 0.5 / (half / 2)) ** 2): "`half` is half of the interval already",
            math.ceil(1.96 * 0.5 / half): "the error falls with the root of n, so n grows with the "
            "square",
        }
        if answer != truth:
            hint = hints.get(answer, "for which share is the error largest?")
            raise CheckFailed(f"enough: {answer} for {half}, which should be {truth}; {hint}")
    print("enough: right")


def check_frechet(frechet: Callable, seed: int = 0) -> None:
    """frechet(a, b) → the Fréchet distance of two sets whose numbers don't go together."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([[1.0, 2.0, 0.5], [1.5, 0.5, 0.5]])
    a, b = torch.randn(2, 400, 3, generator=generator) * spread[:, None]
    b = b + torch.tensor([0.5, 0.0, -1.0])
    moved = (a.mean(0) - b.mean(0)).square()
    wider = (a.std(0) - b.std(0)).square()
    compare(
        "frechet", torch.as_tensor(call("frechet", frechet, a, b)), (moved + wider).sum(),
        {
            "the spreads are left out; a set without variety would be perfect": moved.sum(),
            "the means are left out; a set that lies elsewhere would be perfect": wider.sum(),
            "variances are compared; their roots are, as tr(S1 + S2 - 2 (S1 S2)^(1/2)) says":
                (moved + (a.var(0) - b.var(0)).square()).sum(),
            "the means are not squared": (moved.sqrt() + wider).sum(),
            "a root is drawn at the end; the distance is reported squared, as FID is":
                (moved + wider).sum().sqrt(),
            "directions are averaged; they are added up": (moved + wider).mean(),
        },
    )  # fmt: skip


def check_recall(recall: Callable, seed: int = 0) -> None:
    """recall(drawn, real, k) → the share of real points on the manifold of the drawn ones."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(60, 2, generator=generator)
    drawn = torch.randn(40, 2, generator=generator) * torch.tensor([0.3, 1.0])
    k = 3
    gaps = torch.cdist(real, drawn)
    radii = torch.cdist(drawn, drawn).sort(1).values
    precision, truth = precision_and_recall(drawn, real, k)
    compare(
        "recall", torch.as_tensor(call("recall", recall, drawn, real, k)), torch.tensor(truth),
        {
            "that is precision: recall asks which real points the drawn ones reach":
                torch.tensor(precision),
            "each point is its own nearest neighbour, so these balls are one neighbour too small":
                torch.tensor(share_on_manifold(real, drawn, k - 1)),
            "the balls are those of the real points; the drawn ones' manifold is asked about":
                (gaps <= torch.cdist(real, real).sort(1).values[:, k, None]).any(1).float().mean(),
            "one radius for all; each ball reaches to its own k-th neighbour":
                (gaps <= radii[:, k].mean()).any(1).float().mean(),
            "a point is in when it is in any ball; here it must be in all":
                (gaps <= radii[:, k]).all(1).float().mean(),
        },
    )  # fmt: skip


def check_diversity(diversity: Callable, seed: int = 0) -> None:
    """diversity(z) → (n,): of each prompt, one less the mean cosine of two different pictures."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 4, 8, generator=generator) + 0.5, dim=-1)
    cosines = z @ z.mT
    others = (cosines.sum((1, 2)) - 4) / 12
    flat = z.flatten(0, 1)
    compare(
        "diversity", call("diversity", diversity, z), 1 - others,
        {
            "each picture is compared with itself, too, which makes all sets look alike":
                1 - cosines.mean((1, 2)),
            "that is how alike they are": others,
            "one number for all; one a prompt is asked for": 1 - others.mean(),
            "pictures of different prompts are compared, which should differ":
                1 - ((flat @ flat.T).sum() - 20) / (20 * 19),
            "only neighbours are compared; there are six pairs of four pictures":
                1 - (z[:, 1:] * z[:, :-1]).sum(-1).mean(1),
        },
    )  # fmt: skip
