"""Names and styles as numbers: what the judge and CLIP answer, and how an answer is scored."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from minidalle2.evaluation.rows import row
from minidalle2.worlds.emoji.names import Name, drawings, names
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.emoji.words import STYLES

UNLIKE = ("noto", "blob", "twemoji", "openmoji")  # fluent and flat are near-copies of each other


@cache
def known_names() -> tuple[Name, ...]:
    """The names that the split `train` draws, in the order of names.jsonl: the judge's answers."""
    trained = {drawings()[i].name.key for i in members("train").tolist()}
    return tuple(name for name in names() if name.key in trained)


@cache
def core_names() -> tuple[Name, ...]:
    """The 1,200 core names, held-out and hidden ones too, in the order of names.jsonl."""
    return tuple(name for name in names() if name.tier == "core")


def places_in(answers: tuple[Name, ...], rows: Tensor) -> Tensor:
    """(B,) rows of `drawings()` → (B,) the places of their names in `answers`; -1: not there."""
    place = {name.key: i for i, name in enumerate(answers)}
    return torch.tensor([place.get(drawings()[i].name.key, -1) for i in rows.tolist()])


def styles_of(rows: Tensor) -> Tensor:
    """(B,) rows of `drawings()` → (B,) places in STYLES."""
    return torch.tensor([STYLES.index(drawings()[i].style) for i in rows.tolist()])


@cache
def core_members(split: str) -> Tensor:
    """(M,) the split's drawings of core names; symbols and clocks are only trained on."""
    rows = members(split)
    return rows[[drawings()[i].name.tier == "core" for i in rows.tolist()]]


def are_unlike(rows: Tensor) -> Tensor:
    """(B,) bool: drawn by one of the four hands of which none is another's near-copy."""
    return torch.tensor([drawings()[i].style in UNLIKE for i in rows.tolist()])


def ranks(scores: Tensor, own: Tensor) -> Tensor:
    """(B, N) scores of N answers, (B,) the right ones → (B,) how many of the others score as much
    or more: 0 is right, below 5 is among the first five. Ties count against it."""
    mine = scores.gather(1, own[:, None])
    return (scores >= mine).sum(1) - 1


def scored(
    what: str, about: str, split: str, rows: Tensor, name_rank: Tensor, style_rank: Tensor
) -> Iterator[dict]:
    """Rows of the report: how often the name came first or among the first five, and the style
    first; of held-out pairs also by the four unlike hands only."""
    groups = {"": torch.ones(len(rows), dtype=torch.bool)}
    if split == "pairs":
        groups[", four hands"] = are_unlike(rows)
    right = {
        "name top-1": name_rank == 0, "name top-5": name_rank < 5, "style right": style_rank == 0
    }  # fmt: skip
    for group, chosen in groups.items():
        for metric, good in right.items():
            if chosen.any():
                n = int(chosen.sum())
                yield row(what, f"{metric}, {about}{group}", split, int(good[chosen].sum()), n)
