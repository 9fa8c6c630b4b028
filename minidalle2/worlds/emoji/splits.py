"""Which drawings are used for training, which are held out, and which are hidden.

`train` and `seen` contain the same drawings; `seen` is without the augmentation of training.
`pairs` are names that training has in other styles, but not in this one. `names` are names that
training does not have, but their words occur in other names. Hidden drawings (data/emoji/hide.json)
are in no split. Letters: M drawings of a split.
"""

from functools import cache

import torch
from torch import Tensor

from minidalle2.worlds.emoji.names import Drawing, drawings, hidden, names, read_json

SPLITS = ("train", "seen", "pairs", "names")


def check_split(split: str) -> None:
    """Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the emoji world has {', '.join(SPLITS)}")


@cache
def members(split: str) -> Tensor:
    """(M,) the drawings of a split, as rows of `drawings()`."""
    check_split(split)
    wanted = "train" if split == "seen" else split
    return torch.tensor([i for i, d in enumerate(drawings()) if split_of(d) == wanted])


def split_of(drawing: Drawing) -> str:
    """`train`, `pairs`, `names` or `hidden`. Every drawing is in exactly one of them."""
    key = drawing.name.key
    if key in hidden():
        return "hidden"
    if key in held_out_names():
        return "names"
    return "pairs" if held_out_pairs().get(key) == drawing.style else "train"


@cache
def held_out_names() -> frozenset[str]:
    """The keys of the names that are in no training caption."""
    return frozenset(read_json("splits.json")["names"])


@cache
def held_out_pairs() -> dict[str, str]:
    """Key of a name → the style in which it is held out."""
    return read_json("splits.json")["pairs"]


@cache
def held_out_words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The held-out names in lower-case English and in Chinese. No keyword may contain them."""
    held_out = [name for name in names() if name.key in held_out_names()]
    return tuple(n.name.lower() for n in held_out), tuple(n.name_zh for n in held_out)
