"""The files that drawing commands write: one PNG per picture, grid.png and manifest.jsonl."""

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TextIO

from torch import Tensor

from minidalle2.commands.output_folder import GRID, MANIFEST, alone, earlier_results, remove
from minidalle2.storage.labels import without_font
from minidalle2.storage.ours import check_ours
from minidalle2.storage.pictures import labelled_grid, save_image, save_png

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


def write_results(
    folder: Path, pictures: Iterable[Drawn], save_grid: Callable[[list[Drawn]], None]
) -> list[Drawn]:
    """Writes every picture, its line of the manifest, and the grid. Returns the grid's pictures.

    `save_grid` saves the first IN_GRID pictures as one. No other command can write to the folder at
    the same time. Raises ValueError if another command does.
    """
    with alone(folder):
        written = write_pictures(folder, pictures)
        save_grid(written)
    return written


def write_pictures(folder: Path, pictures: Iterable[Drawn]) -> list[Drawn]:
    """Writes every picture and its line of the manifest. Returns the first IN_GRID pictures.

    Earlier results in the folder are removed when the first picture is drawn. Each line is written
    right after its picture, so that the manifest is also correct after Ctrl-C.
    """
    for_grid, manifest = [], None
    with ExitStack() as files:
        earlier_results(folder)  # raises ValueError before anything is drawn
        for drawn in pictures:
            if manifest is None:
                check_ours([folder / drawn.file])
                remove(earlier_results(folder), folder)
                manifest = files.enter_context(new_manifest(folder))
            write(drawn, folder, manifest)
            for_grid += [drawn] if len(for_grid) < IN_GRID else []
    return for_grid


def new_manifest(folder: Path) -> TextIO:
    """An empty manifest. A line is on the disk as soon as it is complete.

    A file name that is no Unicode text has surrogates, which become escapes of JSON.
    """
    path, options = folder / MANIFEST, {"encoding": "utf-8", "errors": "backslashreplace"}
    return open(path, "w", buffering=1, **options)


def write(drawn: Drawn, folder: Path, manifest: TextIO) -> None:
    """Writes a picture and its line of the manifest. A picture without a line does not stay."""
    path = folder / drawn.file
    check_ours([path])
    try:
        save_png(drawn.picture, path)
        line = {"file": drawn.file, **drawn.about}
        manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


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
    save_image(labelled_grid(cells, columns=1), path)


def say_where(written: list[Drawn], total: int, size: int, seconds: float, folder: Path) -> None:
    """Prints how many pictures were drawn, and where they are."""
    shown = f"the first {IN_GRID} pictures" if total > IN_GRID else "all pictures"
    plural = "s" if total > 1 else ""
    print(f"drew {total} picture{plural} of {size} px in {seconds:.1f} s")
    print(f"first picture: {folder / written[0].file}; {shown}: {folder / GRID}")
    missing = without_font(drawn.label for drawn in written)
    if missing:
        print(f"{GRID} shows boxes, because no font on this computer has: {' '.join(missing)}")
