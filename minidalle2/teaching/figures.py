"""Pictures in notebooks: rows of them with titles, strips with labels, films that GitHub shows.

Pictures are (B, 3, H, W) in [-1, 1], as every stage makes them.
"""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
from IPython.display import Image as NotebookImage
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from minidalle2.pictures import to_pillow, to_uint8
from minidalle2.teaching.plots import WIDTH

LETTERS_AN_INCH = 15  # of a title in 8 point, about
TITLE_LETTERS_AN_INCH = 11  # of a figure's title in 11 point


def show_pictures(
    pictures: Tensor, titles: Sequence[str] = (), columns: int = 8, title: str = ""
) -> None:
    """Pictures in rows of `columns`, each under its title."""
    picture_grid(pictures, titles, columns, title)
    plt.show()


def picture_grid(
    pictures: Tensor, titles: Sequence[str] = (), columns: int = 8, title: str = ""
) -> Figure:
    """As `show_pictures`, but hands the figure over instead of showing it."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    side = min(WIDTH / columns, 2.6)
    wrapped = [textwrap.fill(text, int(side * LETTERS_AN_INCH)) for text in titles]
    lines = max([text.count("\n") + 1 for text in wrapped], default=0)
    title = textwrap.fill(title, int(side * columns * TITLE_LETTERS_AN_INCH))
    height = rows * (side + 0.15 * lines) + (0.1 + 0.25 * len(title.splitlines()) if title else 0)
    figure, grid = plt.subplots(
        rows, columns, figsize=(side * columns, height), squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.axis("off")
    for i, picture in enumerate(pictures):
        grid.flat[i].imshow(_array(picture))
        if i < len(wrapped):
            grid.flat[i].set_title(wrapped[i], fontsize=8, loc="center")
    figure.suptitle(title, fontsize=11)
    return figure


def show_strips(rows: Mapping[str, Tensor], columns: Sequence[str] = (), title: str = "") -> None:
    """A row of pictures a name, the name at its left, column names above: one thing compared under
    several conditions, or watched over time."""
    strip_figure(rows, columns, title)
    plt.show()


def strip_figure(
    rows: Mapping[str, Tensor], columns: Sequence[str] = (), title: str = ""
) -> Figure:
    """As `show_strips`, but hands the figure over instead of showing it."""
    count = max(len(pictures) for pictures in rows.values())
    side = min((WIDTH - 1.2) / count, 1.6)
    size = (side * count + 1.2, side * len(rows) + 0.5)
    figure, grid = plt.subplots(len(rows), count, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for i, (name, pictures) in enumerate(rows.items()):
        label = textwrap.fill(name, 14)
        grid[i, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        for j, picture in enumerate(pictures):
            grid[i, j].imshow(_array(picture))
    for j, name in enumerate(columns):
        grid[0, j].set_title(name, fontsize=9, loc="center")
    figure.suptitle(title, fontsize=11)
    return figure


def film(frames: Sequence[Tensor], milliseconds: int = 120, scale: int = 6) -> NotebookImage:
    """Pictures (3, H, W) one after another, the last one held: an animated PNG, because GitHub and
    exported pages keep those, but drop GIFs and scripts."""
    pictures = [to_pillow(to_uint8(frame.detach().cpu())) for frame in frames]
    size = (pictures[0].width * scale, pictures[0].height * scale)
    return animated([p.resize(size, Image.Resampling.NEAREST) for p in pictures], milliseconds)


def film_of_figures(figures: Iterable[Figure], milliseconds: int = 120) -> NotebookImage:
    """The same from figures, each of which is closed."""
    return animated([Image.open(io.BytesIO(png_of(f, crop=False))) for f in figures], milliseconds)


def animated(pictures: Sequence[Image.Image], milliseconds: int) -> NotebookImage:
    buffer = io.BytesIO()
    durations = [milliseconds] * (len(pictures) - 1) + [1500]
    pictures[0].convert("RGB").save(
        buffer, "PNG", save_all=True, duration=durations, loop=0,
        append_images=[picture.convert("RGB") for picture in pictures[1:]],
    )  # fmt: skip
    return NotebookImage(data=buffer.getvalue(), format="png")


def png_of(figure: Figure, crop: bool = True) -> bytes:
    """The figure as a PNG, cropped to what is drawn (frames of a film must keep their size). It is
    closed, or the notebook would show it a second time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight" if crop else None)
    plt.close(figure)
    return buffer.getvalue()


def _array(picture: Tensor) -> Image.Image:
    return to_pillow(to_uint8(picture.detach().cpu()))
