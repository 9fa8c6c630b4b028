"""Which drawings are trained on, which are held out, and which are hidden.

`train` and `seen` are the same drawings (`seen` without training's augmentation); `pairs` are names
seen in other styles, never in this one; `names` are names never seen, of words that are. Hidden
drawings (data/emoji/hide.json) are in no split.
"""

from functools import cache

import torch
from torch import Tensor

from minidalle2.worlds.emoji.names import Drawing, drawings, names, read_json

SPLITS = ("train", "seen", "pairs", "names")


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the emoji world has {', '.join(SPLITS)}")


@cache
def members(split: str) -> Tensor:
    """(M,) the split's drawings, as places in `drawings()`."""
    check_split(split)
    wanted = "train" if split == "seen" else split
    return torch.tensor([i for i, d in enumerate(drawings()) if split_of(d) == wanted])


def split_of(drawing: Drawing) -> str:
    """`train`, `pairs`, `names`, or `hidden`; every drawing is in one."""
    key = drawing.name.key
    if key in hidden():
        return "hidden"
    if key in held_out_names():
        return "names"
    return "pairs" if held_out_pairs().get(key) == drawing.style else "train"


@cache
def hidden() -> frozenset[str]:
    """Keys that a classroom does not want."""
    return frozenset(read_json("hide.json")["hidden"])


@cache
def held_out_names() -> frozenset[str]:
    """Keys of the names that no training caption holds."""
    return frozenset(read_json("splits.json")["names"])


@cache
def held_out_pairs() -> dict[str, str]:
    """Key → the one style in which it is held out."""
    return read_json("splits.json")["pairs"]


@cache
def held_out_words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The held-out names in English, lower case, and in Chinese: no keyword may give them away."""
    held_out = [name for name in names() if name.key in held_out_names()]
    return tuple(n.name.lower() for n in held_out), tuple(n.name_zh for n in held_out)
