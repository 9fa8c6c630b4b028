"""The drawings that exist. A drawing is a name in a style; names.jsonl has the names."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from minidalle2.worlds.emoji.words import STYLES


@dataclass(frozen=True)
class Name:
    """A codepoint, or a sequence of codepoints, and its names. It is a row of names.jsonl."""

    key: str  # codepoints in hexadecimal, "1f980"
    char: str
    name: str  # in CLDR's spelling; captions use `nouns.spoken` of it
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    tier: str  # core, symbols or clocks
    name_zh: str
    keywords_zh: tuple[str, ...]
    shortcodes: tuple[str, ...]  # of chat systems, without colons
    styles: tuple[str, ...]  # those that have a drawing of it


class Drawing(NamedTuple):
    """A name in a style."""

    name: Name
    style: str


def data_folder() -> Path:
    """The folder of the emoji: beside this file in a wheel (setup.py), or data/emoji of a clone.

    Raises ValueError if both are missing.
    """
    here = Path(__file__).resolve()
    folders = (here.parent / "data", here.parents[3] / "data" / "emoji")
    for folder in folders:
        if (folder / "names.jsonl").exists():
            return folder
    raise ValueError(
        f"the emoji world's data is not at {folders[0]} or {folders[1]}; install a wheel again, or "
        "run from a clone of the repository (pip install -e .)"
    )


def licences() -> Path:
    """The folder of the licences and credits of all drawings. It must stay with the pictures."""
    return data_folder() / "LICENSES"


def read_json(name: str) -> Any:
    """The content of a JSON file in the data folder."""
    return json.loads((data_folder() / name).read_text(encoding="utf-8"))


@cache
def names() -> tuple[Name, ...]:
    """All names, in the order of names.jsonl."""
    lines = (data_folder() / "names.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return tuple(
        Name(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in rows
    )


@cache
def drawings() -> tuple[Drawing, ...]:
    """All drawings, also hidden and held-out ones: style by style, in the order of the names."""
    return tuple(
        Drawing(name, style) for style in STYLES for name in names() if style in name.styles
    )


@cache
def hidden() -> frozenset[str]:
    """The keys of names that are not suitable for a classroom."""
    return frozenset(read_json("hide.json")["hidden"])


@cache
def requestable() -> tuple[Name, ...]:
    """All names that are not hidden, in the order of names.jsonl."""
    return tuple(name for name in names() if name.key not in hidden())
