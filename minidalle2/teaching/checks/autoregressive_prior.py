"""Exercises 08: an arrow into words, back again, and written word after word."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.autoregressive_prior import above, pick
from minidalle2.quantisation import quantise
from minidalle2.teaching.checks.compare import call, compare


def check_to_buckets(to_buckets: Callable, seed: int = 0) -> None:
    """to_buckets(values, edges) → (N,) bucket numbers; outside, the end buckets."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.tensor([-1.0, -0.25, 0.0, 0.5, 2.0])
    # Two inside each bucket, one on an inner edge, and one beyond each end.
    inside = edges[:-1] + edges.diff() * torch.rand(2, 4, generator=generator)
    values = torch.cat((inside.flatten(), torch.tensor([-0.25, -1.5, 2.5])))
    at_or_above = values[:, None] >= edges
    compare(
        "to_buckets", call("to_buckets", to_buckets, values, edges),
        quantise(values[:, None], edges[None])[:, 0],
        {
            "what lies outside the edges has no bucket; it should go to the end ones":
                at_or_above.sum(1) - 1,
            "they are counted from 1": at_or_above[:, 1:-1].sum(1) + 1,
            "the outer edges are counted, too; only inner ones tell buckets apart":
                at_or_above.sum(1),
            "a value on an edge belongs to the bucket that begins there":
                (values[:, None] > edges[1:-1]).sum(1),
            "the middles are returned; the numbers of the buckets are asked for":
                ((edges[1:] + edges[:-1]) / 2)[at_or_above[:, 1:-1].sum(1)],
        },
    )  # fmt: skip


def check_first_components(first_components: Callable, seed: int = 0) -> None:
    """first_components(values, mean, components) → (B, E), unit length, from k of K components."""
    generator = torch.Generator().manual_seed(seed)
    components = torch.linalg.qr(torch.randn(6, 4, generator=generator)).Q.T
    values, mean = torch.randn(3, 2, generator=generator), torch.randn(6, generator=generator)
    first, last = values @ components[:2], values @ components[-2:]
    compare(
        "first_components", call("first_components", first_components, values, mean, components),
        F.normalize(mean + first, dim=-1),
        {
            "the mean is missing; components are directions from the mean":
                F.normalize(first, dim=-1),
            "the rows are not of length 1, which the decoder counts on": mean + first,
            "the last components are taken; the first hold most": F.normalize(mean + last, dim=-1),
            "the mean is added after the length was made 1":
                mean + F.normalize(first, dim=-1),
        },
    )  # fmt: skip


def check_known_and_asked(known_and_asked: Callable, seed: int = 0) -> None:
    """known_and_asked(buckets) → what the network reads (B, K-1), and should say (B, K)."""
    generator = torch.Generator().manual_seed(seed)
    buckets = torch.randint(100, (3, 5), generator=generator)
    compare(
        "known_and_asked", call("known_and_asked", known_and_asked, buckets),
        (buckets[:, :-1], buckets),
        {
            "the last is read, too, but nothing is said after it": (buckets, buckets),
            "the first component is never asked for; the prefix says it":
                (buckets[:, :-1], buckets[:, 1:]),
            "each is said from itself and later ones; read those before it":
                (buckets[:, 1:], buckets),
            "what is read and what is asked are exchanged": (buckets, buckets[:, :-1]),
        },
    )  # fmt: skip


def check_pick(answer: Callable, seed: int = 0) -> None:
    """pick(logits, chance) → (B,), where the summed probabilities reach each chance."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(40, 6, generator=generator)
    chance = 0.02 + 0.96 * torch.rand(40, generator=generator)
    summed, column = logits.softmax(-1).cumsum(-1), chance[:, None]
    compare(
        "pick", call("pick", answer, logits, chance), pick(logits, chance),
        {
            "the likeliest is taken, whatever the chance; all draws would be alike":
                logits.argmax(-1),
            "one too far; the bucket that reaches the chance is the one":
                (summed < column).sum(-1) + 1,
            "the buckets beyond are counted; count those that end below the chance":
                (summed >= column).sum(-1),
            "probabilities are not summed; compare `cumsum` with the chance":
                (logits.softmax(-1) < column).sum(-1),
            "logits are no probabilities; `softmax` comes first":
                (logits.cumsum(-1) < column).sum(-1),
            "every row takes the first row's chance": (summed < chance[0]).sum(-1),
        },
    )  # fmt: skip


def check_wish(wish: Callable, seed: int = 0) -> None:
    """wish(percentile, chance, buckets) → (B,), even among the buckets above the percentile."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.cat((torch.rand(30, generator=generator), torch.tensor([0.0, 1.0])))
    for percentile, buckets in ((0.5, 8), (0.75, 128)):
        floor = int(percentile * buckets)
        compare(
            f"wish, above {percentile:.0%} of {buckets}",
            call("wish", wish, percentile, chance, buckets),
            above(percentile, chance, buckets),
            {
                "chance 1 gives a bucket that does not exist; the last is buckets - 1":
                    ((percentile + (1 - percentile) * chance) * buckets).long(),
                "all buckets are drawn from, the lower ones, too":
                    (chance * buckets).long().clamp(max=buckets - 1),
                "the buckets below the percentile are drawn from":
                    (percentile * chance * buckets).long(),
                "only the lowest bucket that is allowed is drawn": torch.full((32,), floor),
                "what is too low is raised to the percentile, so that bucket comes too often":
                    (chance * buckets).long().clamp(floor, buckets - 1),
            },
        )  # fmt: skip
