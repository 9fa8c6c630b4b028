"""The files that drawing commands write: one PNG per picture, grid.png and manifest.jsonl."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch import Tensor

from minidalle2.storage.pictures import labelled_grid, save_png

CHUNK = 16  # pictures that are drawn as one batch
IN_GRID = 64  # most pictures in the grid
STRIP = 8  # most pictures side by side in the grid


@dataclass
class Drawn:
    """A picture that was drawn and not yet written."""

    file: str  # name of its PNG
    label: str  # text below the picture in the grid
    about: dict  # its line of the manifest, without `file`
    picture: Tensor  # (3, S, S) uint8


def slug(text: str) -> str:
    """'A small, red circle.' → 'a_small_red_circle', in ASCII, valid on every file system."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60].strip("_") or "picture"


def write_pictures(folder: Path, pictures: Iterable[Drawn]) -> list[Drawn]:
    """Writes every picture and its line of the manifest. Returns the first IN_GRID pictures.

    Each line is written right after its picture, so that the manifest is also correct after Ctrl-C.
    """
    for_grid = []
    with open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for drawn in pictures:
            save_png(drawn.picture, folder / drawn.file)
            line = {"file": drawn.file, **drawn.about}
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
            for_grid += [drawn] if len(for_grid) < IN_GRID else []
    return for_grid


def drawing(n: int) -> str:
    """What a progress bar says while n pictures are drawn."""
    return f"drawing {n} picture{'s' if n > 1 else ''}"


def strips(label: str, pictures: list[Tensor]) -> list[tuple[str, list[Tensor]]]:
    """Cells of a grid: strips of at most STRIP pictures side by side, all with the same label."""
    return [(label, pictures[left : left + STRIP]) for left in range(0, len(pictures), STRIP)]


def save_strips(written: list[Drawn], first: dict[str, list[Tensor]], path: Path) -> None:
    """Saves a grid with the pictures of each label in strips of their own.

    The strips of a label start with the pictures that `first` has for it.
    """
    cells = []
    for label, group in groupby(written, key=lambda drawn: drawn.label):
        cells += strips(label, [*first.get(label, []), *(drawn.picture for drawn in group)])
    labelled_grid(cells, columns=1).save(path)


def say_where(written: list[Drawn], total: int, size: int, seconds: float, folder: Path) -> None:
    """Prints how many pictures were drawn, and where they are."""
    shown = f"the first {IN_GRID} pictures" if total > IN_GRID else "all pictures"
    plural = "s" if total > 1 else ""
    print(f"drew {total} picture{plural} of {size} px in {seconds:.1f} s")
    print(f"first picture: {folder / written[0].file}; {shown}: {folder / 'grid.png'}")
