"""Names and styles as class indices: the answers of the judge and of CLIP, and their scores.

Letters: B pictures, N answers, M drawings of a split.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from minidalle2.evaluation.rows import row
from minidalle2.worlds.emoji.names import Name, drawings, names
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.emoji.words import STYLES

# The four styles whose drawings differ clearly. fluent and flat are near-copies of each other.
# Names of rows call these styles "four hands".
UNLIKE = ("noto", "blob", "twemoji", "openmoji")


@cache
def known_names() -> tuple[Name, ...]:
    """The names in the split `train`, in the order of names.jsonl. They are the judge's answers."""
    trained = {drawings()[i].name.key for i in members("train").tolist()}
    return tuple(name for name in names() if name.key in trained)


@cache
def core_names() -> tuple[Name, ...]:
    """The 1,200 core names, also held-out and hidden ones, in the order of names.jsonl."""
    return tuple(name for name in names() if name.tier == "core")


def places_in(answers: tuple[Name, ...], rows: Tensor) -> Tensor:
    """Rows of `drawings()` (B,) → the indices of their names in `answers` (B,), -1 if missing."""
    place = {name.key: i for i, name in enumerate(answers)}
    return torch.tensor([place.get(drawings()[i].name.key, -1) for i in rows.tolist()])


def styles_of(rows: Tensor) -> Tensor:
    """Rows of `drawings()` (B,) → indices into STYLES (B,)."""
    return torch.tensor([STYLES.index(drawings()[i].style) for i in rows.tolist()])


@cache
def core_members(split: str) -> Tensor:
    """(M,) the drawings of core names in a split. Symbols and clocks are used for training only."""
    rows = members(split)
    return rows[[drawings()[i].name.tier == "core" for i in rows.tolist()]]


def are_unlike(rows: Tensor) -> Tensor:
    """(B,) bool: the drawing is in one of the four styles in UNLIKE."""
    return torch.tensor([drawings()[i].style in UNLIKE for i in rows.tolist()])


def ranks(scores: Tensor, own: Tensor) -> Tensor:
    """Scores (B, N) and the right answers (B,) → the ranks of the right answers (B,).

    The rank is the number of other answers with the same score or a higher one: 0 is right, and
    below 5 is among the first five.
    """
    mine = scores.gather(1, own[:, None])
    return (scores >= mine).sum(1) - 1


def scored(
    what: str, about: str, split: str, rows: Tensor, name_rank: Tensor, style_rank: Tensor
) -> Iterator[dict]:
    """Rows of the report: name first, name among the first five, and style first.

    For the split `pairs`, there are also rows for the four unlike styles only.
    """
    groups = {"": torch.ones(len(rows), dtype=torch.bool)}
    if split == "pairs":
        groups[", four hands"] = are_unlike(rows)
    right = {
        "name top-1": name_rank == 0,
        "name top-5": name_rank < 5,
        "style right": style_rank == 0,
    }
    for group, chosen in groups.items():
        for metric, good in right.items():
            if chosen.any():
                n = int(chosen.sum())
                yield row(what, f"{metric}, {about}{group}", split, int(good[chosen].sum()), n)
