"""Groups of pictures that differ in one thing: the hand, the thing, or the background; and sheets,
of one hand on one background.

CLIP learns only what tells a batch apart. Among random drawings the name nearly always does, so
styles and backgrounds go unlearned; among near misses each of the three must be looked at.
"""

from collections import defaultdict
from functools import cache

import torch
from torch import Tensor

from minidalle2.worlds.emoji.backgrounds import (
    CONTRAST, WHITE_SHARE, contrast, rank_backgrounds,
)  # fmt: skip
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.emoji.words import BACKGROUNDS, STYLES, WHITE
from minidalle2.worlds.stored import shuffled

GROUP = 8
HANDS, THINGS = 3, 2  # rows 1 to 3, rows 4 and 5; the others, 6 and 7, change the background


def sample_near_misses(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """→ (n,) rows of `drawings()`, all of `train`, and (n,) backgrounds, group after group.

    Where too few hands drew a name, or a kind has too few things, the background changes instead.
    """
    groups = -(-n // GROUP)
    training = members("train")
    base = training[torch.randint(len(training), (groups,), generator=generator)]
    hands, things = (_pick(table[base], k, generator)
                     for table, k in zip(relatives(), (HANDS, THINGS), strict=True))  # fmt: skip
    none = torch.full((groups, GROUP - 1 - HANDS - THINGS), -1)
    other = torch.cat((base[:, None], hands, things, none), 1)  # (G, 8), -1 for another background
    rows = torch.where(other >= 0, other, base[:, None])
    ranked = rank_backgrounds(base, generator)[:, :GROUP]  # none of them twice
    white = torch.rand(groups, generator=generator) < WHITE_SHARE
    first = torch.where(white, WHITE, ranked[:, 0])[:, None]
    changed = torch.cat((first, ranked[:, 1:]), 1)
    backgrounds = torch.where(other >= 0, first, changed)
    return rows.flatten()[:n], backgrounds.flatten()[:n]


def sample_sheet(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """→ (n,) rows of `drawings()`, of `train` and by one hand, and their (n,) background."""
    training = members("train")
    style = int(torch.randint(len(STYLES), (), generator=generator))
    background = int(torch.randint(1, len(BACKGROUNDS), (), generator=generator))
    if torch.rand((), generator=generator) < WHITE_SHARE:
        background = WHITE
    fit = (styles()[training] == style) & (
        (contrast()[training, background] >= CONTRAST) | (background == WHITE)
    )
    return shuffled(training[fit], n, generator), torch.full((n,), background)


@cache
def styles() -> Tensor:
    """(N,) of every drawing, the place of its style in STYLES."""
    return torch.tensor([STYLES.index(drawing.style) for drawing in drawings()])


def _pick(candidates: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """(G, C), -1 where there is none → k of each row, none twice; -1 where there are fewer."""
    order = torch.rand(candidates.shape, generator=generator) + (candidates >= 0)
    return candidates.gather(1, order.topk(k, dim=1).indices)


@cache
def relatives() -> tuple[Tensor, Tensor]:
    """(N, 5) the same name by other hands, (N, C) other names of the subgroup by the same hand:
    rows of `drawings()` that are in `train`, padded with -1."""
    same_name, same_kind = defaultdict(list), defaultdict(list)
    for i in members("train").tolist():
        name, style = drawings()[i]
        same_name[name.key].append(i)
        same_kind[name.subgroup, style].append(i)
    others_by_name, others_by_kind = [], []
    for i, (name, style) in enumerate(drawings()):
        others_by_name.append([j for j in same_name[name.key] if j != i])
        others_by_kind.append([j for j in same_kind[name.subgroup, style] if j != i])
    return _padded(others_by_name), _padded(others_by_kind)


def _padded(lists: list[list[int]]) -> Tensor:
    width = max(map(len, lists))
    return torch.tensor([row + [-1] * (width - len(row)) for row in lists])
