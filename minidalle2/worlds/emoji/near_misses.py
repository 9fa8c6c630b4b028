"""Groups of pictures that differ in one thing: the style, the name, or the background.

CLIP learns only what it needs to tell the pairs of a batch apart. In a batch of random drawings,
the name is nearly always enough, so CLIP does not learn styles and backgrounds. In a group of near
misses, CLIP needs all three. A sheet is a batch of one style on one background, in which CLIP needs
the names. Letters: n pictures, G groups, N drawings, C candidates.
"""

from collections import defaultdict
from functools import cache

import torch
from torch import Tensor

from minidalle2.worlds.emoji.backgrounds import CONTRAST, WHITE_SHARE, contrast, rank_backgrounds
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.emoji.words import BACKGROUNDS, STYLES, WHITE
from minidalle2.worlds.stored import shuffled

GROUP = 8
# In a group, rows 1 to 3 change the style, rows 4 and 5 the name, rows 6 and 7 the background.
HANDS, THINGS = 3, 2


def sample_near_misses(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """→ (n,) rows of `drawings()` from `train`, and (n,) backgrounds, group after group.

    If a name has too few styles, or its subgroup has too few other names, the background changes in
    place of the style or the name.
    """
    groups = -(-n // GROUP)
    training = members("train")
    base = training[torch.randint(len(training), (groups,), generator=generator)]
    hands, things = (
        _pick(table[base], k, generator)
        for table, k in zip(relatives(), (HANDS, THINGS), strict=True)
    )
    none = torch.full((groups, GROUP - 1 - HANDS - THINGS), -1)
    other = torch.cat((base[:, None], hands, things, none), 1)  # (G, 8), -1: other background
    rows = torch.where(other >= 0, other, base[:, None])
    ranked = rank_backgrounds(base, generator)[:, :GROUP]  # all different
    white = torch.rand(groups, generator=generator) < WHITE_SHARE
    first = torch.where(white, WHITE, ranked[:, 0])[:, None]
    changed = torch.cat((first, ranked[:, 1:]), 1)
    backgrounds = torch.where(other >= 0, first, changed)
    return rows.flatten()[:n], backgrounds.flatten()[:n]


def sample_sheet(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """→ (n,) rows of `drawings()` from `train` in one style, and (n,) times the same background."""
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
    """(N,) index into STYLES of every drawing."""
    return torch.tensor([STYLES.index(drawing.style) for drawing in drawings()])


def _pick(candidates: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Candidates (G, C) → k different ones of each row (G, k).

    A missing candidate is -1. If a row has fewer than k candidates, the result contains -1.
    """
    order = torch.rand(candidates.shape, generator=generator) + (candidates >= 0)
    return candidates.gather(1, order.topk(k, dim=1).indices)


@cache
def relatives() -> tuple[Tensor, Tensor]:
    """(N, 5) the same name in other styles, and (N, C) other names of its subgroup in its style.

    Both contain rows of `drawings()` that are in `train`, padded with -1.
    """
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
