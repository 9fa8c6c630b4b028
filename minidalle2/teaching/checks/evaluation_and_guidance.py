"""Checks of exercises 14: sample size, distance of two sets, recall, and diversity."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.evaluation.precision_recall import precision_and_recall, share_on_manifold
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_enough(enough: Callable, seed: int = 0) -> None:
    """enough(half) → the fewest pictures for which 1.96 standard errors are at most `half`.

    This must hold for every share.
    """
    for half in ((0.1, 0.03, 0.5), (0.05, 0.02, 0.4))[seed % 2]:
        answer, exact = call("enough", enough, half), (1.96 * 0.5 / half) ** 2
        truth = math.ceil(exact - 1e-9)
        if not isinstance(answer, int | float):
            compare("enough", answer, truth)  # raises CheckFailed
        hints = {
            math.floor(exact): "The error is still too large with this number. Round up.",
            math.ceil((1.96 / half) ** 2): "The variance of a share is p (1 - p), at most 1/4.",
            math.ceil(0.25 / half**2): "One standard error covers two thirds, 1.96 of them 95 %.",
            math.ceil((1.96 * 0.5 / (half / 2)) ** 2): "`half` is already half of the interval.",
            math.ceil(1.96 * 0.5 / half): "The error falls with the square root of n, not with n.",
        }
        if answer != truth:
            hint = hints.get(answer, "For which share is the error largest?")
            raise CheckFailed(f"enough: For {half} it returns {answer}, not {truth}. {hint}")
    print("enough: right")


def check_frechet(frechet: Callable, seed: int = 0) -> None:
    """frechet(a (N, E), b (M, E)) → the Fréchet distance if the E numbers are not correlated."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([[1.0, 2.0, 0.5], [1.5, 0.5, 0.5]])
    a, b = torch.randn(2, 400, 3, generator=generator) * spread[:, None]
    b = b + torch.tensor([0.5, 0.0, -1.0])
    means = (a.mean(0) - b.mean(0)).square()
    deviations = (a.std(0) - b.std(0)).square()
    distance = (means + deviations).sum()
    no_roots = (means + (a.var(0) - b.var(0)).square()).sum()
    mistakes = {
        "The deviations are missing. A set without variety could be perfect.": means.sum(),
        "The means are missing. A set that lies elsewhere could be perfect.": deviations.sum(),
        "Variances are compared. In tr(S1 + S2 - 2 (S1 S2)^(1/2)) their roots are.": no_roots,
        "The differences of the means are not squared.": (means.sqrt() + deviations).sum(),
        "The square root is taken. The distance is reported squared, as FID is.": distance.sqrt(),
        "The E dimensions are averaged. Sum them.": (means + deviations).mean(),
    }
    compare("frechet", torch.as_tensor(call("frechet", frechet, a, b)), distance, mistakes)


def check_recall(recall: Callable, seed: int = 0) -> None:
    """recall(drawn (N, E), real (M, E), k) → the share of real points in the drawn manifold."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(60, 2, generator=generator)
    drawn = torch.randn(40, 2, generator=generator) * torch.tensor([0.3, 1.0])
    k = 3
    gaps = torch.cdist(real, drawn)
    radii = torch.cdist(drawn, drawn).sort(1).values[:, k]
    real_radii = torch.cdist(real, real).sort(1).values[:, k]
    precision, truth = map(torch.tensor, precision_and_recall(drawn, real, k))
    too_small = torch.tensor(share_on_manifold(real, drawn, k - 1))
    real_balls = (gaps <= real_radii[:, None]).any(1).float().mean()
    one_radius = (gaps <= radii.mean()).any(1).float().mean()
    in_all_balls = (gaps <= radii).all(1).float().mean()
    mistakes = {
        "This is precision. Recall asks which real points lie near drawn ones.": precision,
        "Each point is its own nearest neighbour here, so the balls are too small.": too_small,
        "The balls have the radii of the real points. Use the drawn points.": real_balls,
        "All balls have the same radius. Each reaches to its own neighbour k.": one_radius,
        "A point must lie in all balls here. One ball is enough.": in_all_balls,
    }
    answer = torch.as_tensor(call("recall", recall, drawn, real, k))
    compare("recall", answer, truth, mistakes)


def check_diversity(diversity: Callable, seed: int = 0) -> None:
    """diversity(z (n, k, E)) → (n,), 1 - the mean cosine of two different pictures of a prompt."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 4, 8, generator=generator) + 0.5, dim=-1)
    cosines = z @ z.mT
    similarity = (cosines.sum((1, 2)) - 4) / 12
    flat = z.flatten(0, 1)
    across = ((flat @ flat.T).sum() - 20) / (20 * 19)
    neighbours = (z[:, 1:] * z[:, :-1]).sum(-1).mean(1)
    mistakes = {
        "Each picture is also compared with itself. Leave that out.": 1 - cosines.mean((1, 2)),
        "This is the mean cosine itself. Subtract it from 1.": similarity,
        "One number for all prompts is returned. Return one for each.": 1 - similarity.mean(),
        "Pictures of different prompts are compared. They should differ.": 1 - across,
        "Only neighbours are compared. Four pictures make six pairs.": 1 - neighbours,
    }
    compare("diversity", call("diversity", diversity, z), 1 - similarity, mistakes)
