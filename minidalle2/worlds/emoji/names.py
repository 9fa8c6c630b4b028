"""Which drawings there are: names.jsonl as rows, a drawing being a name in a style."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from minidalle2.worlds.emoji.words import STYLES


@dataclass(frozen=True)
class Name:
    """A codepoint (or a sequence) and what it is called; a row of names.jsonl."""

    key: str  # its codepoints in hexadecimal, "1f980"
    char: str
    name: str  # in CLDR's spelling; `captions.spoken` is what captions say
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    tier: str  # core, symbols or clocks
    name_zh: str
    keywords_zh: tuple[str, ...]
    styles: tuple[str, ...]  # the ones that have drawn it


class Drawing(NamedTuple):
    name: Name
    style: str


def data_folder() -> Path:
    """The repository's data/emoji, which stands beside the package."""
    folder = Path(__file__).resolve().parents[3] / "data" / "emoji"
    if not (folder / "names.jsonl").exists():
        raise ValueError(
            f"the emoji world's data is not at {folder}; it comes with the repository, so run from "
            "a clone of it (pip install -e .)"
        )
    return folder


def read_json(name: str):
    return json.loads((data_folder() / name).read_text(encoding="utf-8"))


@cache
def names() -> tuple[Name, ...]:
    lines = (data_folder() / "names.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(
        Name(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in rows
    )


@cache
def drawings() -> tuple[Drawing, ...]:
    """All, hidden and held-out ones too: style by style, each in the order of the names."""
    return tuple(
        Drawing(name, style) for style in STYLES for name in names() if style in name.styles
    )
