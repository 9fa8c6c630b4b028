"""Checks of exercises 08: an embedding as tokens, the way back, and drawing token by token."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.priors.autoregressive_prior import above, pick
from minidalle2.priors.quantisation import quantise
from minidalle2.teaching.checks.compare import call, compare


def check_to_buckets(to_buckets: Callable, seed: int = 0) -> None:
    """to_buckets(values (N,), edges (buckets + 1,)) → (N,) numbers of buckets.

    Values outside the edges belong to the first or the last bucket.
    """
    generator = torch.Generator().manual_seed(seed)
    edges = torch.tensor([-1.0, -0.25, 0.0, 0.5, 2.0])
    # Two values in each bucket, one on an inner edge, and one outside each end.
    inside = edges[:-1] + edges.diff() * torch.rand(2, 4, generator=generator)
    values = torch.cat((inside.flatten(), torch.tensor([-0.25, -1.5, 2.5])))
    truth = quantise(values[:, None], edges[None])[:, 0]
    edges_reached = (values[:, None] >= edges).sum(1)
    without_ends = edges_reached - 1
    bucket_before = (values[:, None] > edges[1:-1]).sum(1)
    middles = ((edges[1:] + edges[:-1]) / 2)[truth]
    mistakes = {
        "A value outside the edges has no bucket. Use the first or last one.": without_ends,
        "The buckets are numbered from 1. Number them from 0.": truth + 1,
        "The outer edges are counted. Only inner edges separate buckets.": edges_reached,
        "A value on an edge belongs to the bucket that begins there.": bucket_before,
        "The middles of the buckets are returned. Return their numbers.": middles,
    }
    compare("to_buckets", call("to_buckets", to_buckets, values, edges), truth, mistakes)


def check_first_components(first_components: Callable, seed: int = 0) -> None:
    """first_components(values (B, k), mean (E,), components (K, E)) → (B, E) of unit length."""
    generator = torch.Generator().manual_seed(seed)
    components = torch.linalg.qr(torch.randn(6, 4, generator=generator)).Q.T
    values, mean = torch.randn(3, 2, generator=generator), torch.randn(6, generator=generator)
    first, last = values @ components[:2], values @ components[-2:]
    mistakes = {
        "The mean is missing. Components are directions from the mean.": F.normalize(first, dim=-1),
        "The rows do not have length 1. The decoder needs unit length.": mean + first,
        "The last k components are used. Use the first.": F.normalize(mean + last, dim=-1),
        "The mean is added after the normalisation.": mean + F.normalize(first, dim=-1),
    }
    answer = call("first_components", first_components, values, mean, components)
    compare("first_components", answer, F.normalize(mean + first, dim=-1), mistakes)


def check_known_and_asked(known_and_asked: Callable, seed: int = 0) -> None:
    """known_and_asked(buckets (B, K)) → what the network reads (B, K - 1) and predicts (B, K)."""
    generator = torch.Generator().manual_seed(seed)
    buckets = torch.randint(100, (3, 5), generator=generator)
    all_but_last, all_but_first = buckets[:, :-1], buckets[:, 1:]
    mistakes = {
        "The last token is read, too, but nothing is predicted after it.": (buckets, buckets),
        "The first token is not predicted. The prefix predicts it.": (all_but_last, all_but_first),
        "Each token is predicted from itself. Read those before it.": (all_but_first, buckets),
        "What is read and what is predicted are exchanged.": (buckets, all_but_last),
    }
    answer = call("known_and_asked", known_and_asked, buckets)
    compare("known_and_asked", answer, (all_but_last, buckets), mistakes)


def check_pick(answer: Callable, seed: int = 0) -> None:
    """pick(logits (B, N), chance (B,)) → (B,), the bucket where the sum reaches the chance.

    The sum is that of the probabilities of all buckets up to this one.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(40, 6, generator=generator)
    chance = 0.02 + 0.96 * torch.rand(40, generator=generator)
    probabilities, column = logits.softmax(-1), chance[:, None]
    summed = probabilities.cumsum(-1)
    one_too_far = (summed < column).sum(-1) + 1
    those_beyond = (summed >= column).sum(-1)
    not_summed = (probabilities < column).sum(-1)
    no_softmax = (logits.cumsum(-1) < column).sum(-1)
    mistakes = {
        "The most probable bucket is always picked, so all draws are equal.": logits.argmax(-1),
        "One bucket too far. Take the first one whose sum reaches `chance`.": one_too_far,
        "The sums that reach `chance` are counted. Count those below it.": those_beyond,
        "The probabilities are not summed. Compare their `cumsum` with `chance`.": not_summed,
        "Logits are summed. Turn them into probabilities first.": no_softmax,
        "All rows use the chance of the first row.": (summed < chance[0]).sum(-1),
    }
    compare("pick", call("pick", answer, logits, chance), pick(logits, chance), mistakes)


def check_wish(wish: Callable, seed: int = 0) -> None:
    """wish(percentile, chance (B,), buckets) → (B,), uniform in buckets above the percentile."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.cat((torch.rand(30, generator=generator), torch.tensor([0.0, 1.0])))
    for percentile, buckets in ((0.5, 8), (0.75, 128)):
        floor = int(percentile * buckets)
        unclamped = ((percentile + (1 - percentile) * chance) * buckets).long()
        uniform = (chance * buckets).long()
        from_all = uniform.clamp(max=buckets - 1)
        from_below = (percentile * chance * buckets).long()
        raised = uniform.clamp(floor, buckets - 1)
        mistakes = {
            "Chance 1 gives a bucket that does not exist. The last is buckets - 1.": unclamped,
            "All buckets are drawn, also those below the percentile.": from_all,
            "Only buckets below the percentile are drawn.": from_below,
            "Only the lowest bucket above the percentile is drawn.": torch.full((32,), floor),
            "Lower buckets are raised to the lowest allowed one. It is drawn too often.": raised,
        }
        answer = call("wish", wish, percentile, chance, buckets)
        truth = above(percentile, chance, buckets)
        compare(f"wish, above {percentile:.0%} of {buckets}", answer, truth, mistakes)
