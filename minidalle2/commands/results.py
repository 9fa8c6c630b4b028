"""What commands that make pictures leave behind: a PNG a picture, grid.png and manifest.jsonl."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from minidalle2.pictures import labelled_grid, save_png

CHUNK = 16  # pictures drawn at a time
IN_GRID = 64  # pictures that the grid shows at most
STRIP = 8  # pictures side by side in the grid


@dataclass
class Drawn:
    """A picture that is to be written."""

    file: str
    label: str  # below it in the grid
    about: dict  # its line of the manifest, beside `file`
    picture: Tensor  # (3, S, S) uint8


def slug(text: str) -> str:
    """'A small, red circle.' → 'a_small_red_circle'; plain ASCII, for any file system."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60].strip("_") or "picture"


def write_pictures(folder: Path, pictures: Iterable[Drawn], total: int) -> list[Drawn]:
    """Write every picture and its line of the manifest; → the first IN_GRID.

    The manifest grows with the pictures, so Ctrl-C leaves a true one.
    """
    for_grid = []
    with (
        open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest,
        tqdm(total=total, unit="picture", disable=None) as bar,  # None: only on a terminal
    ):
        for drawn in pictures:
            save_png(drawn.picture, folder / drawn.file)
            line = {"file": drawn.file, **drawn.about}
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
            for_grid += [drawn] if len(for_grid) < IN_GRID else []
            bar.update()
    return for_grid


def strips(label: str, pictures: list[Tensor]) -> list[tuple[str, list[Tensor]]]:
    """Cells of a grid: pictures with one label, side by side, in as many strips as they need."""
    return [(label, pictures[left : left + STRIP]) for left in range(0, len(pictures), STRIP)]


def save_strips(written: list[Drawn], first: dict[str, list[Tensor]], path: Path) -> None:
    """A strip a label, which begins with what `first` has for it."""
    cells = []
    for label, group in groupby(written, key=lambda drawn: drawn.label):
        cells += strips(label, [*first.get(label, []), *(drawn.picture for drawn in group)])
    labelled_grid(cells, columns=1).save(path)


def say_where(written: list[Drawn], total: int, size: int, seconds: float, folder: Path) -> None:
    """The lines that a command ends with."""
    shown = f", the first {IN_GRID} in" if total > IN_GRID else ", all in"
    plural = "s" if total > 1 else ""
    print(f"drew {total} picture{plural} of {size} px in {seconds:.1f} s")
    print(f"from {folder / written[0].file} on{shown} {folder / 'grid.png'}")
