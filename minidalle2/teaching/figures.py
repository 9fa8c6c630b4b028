"""Pictures in notebooks: grids with titles, labelled strips, and films that GitHub can show.

Pictures are (B, 3, H, W) in [-1, 1], as every stage returns them.
"""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
from IPython.display import Image as NotebookImage
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from minidalle2.storage.pictures import to_pillow, to_uint8
from minidalle2.teaching.plots import WIDTH

LETTERS_AN_INCH = 15  # of a picture's title in 8 point, approximately
TITLE_LETTERS_AN_INCH = 11  # of a figure's title in 11 point, approximately


def show_pictures(
    pictures: Tensor, titles: Sequence[str] = (), columns: int = 8, title: str = ""
) -> None:
    """Shows pictures (B, 3, H, W) in rows of `columns`, each below its title."""
    picture_grid(pictures, titles, columns, title)
    plt.show()


def picture_grid(
    pictures: Tensor, titles: Sequence[str] = (), columns: int = 8, title: str = ""
) -> Figure:
    """Like `show_pictures`, but returns the figure instead of showing it."""
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
    """Shows one row of pictures (B, 3, H, W) for each name, to compare conditions or times.

    The name stands to the left of its row. The names of the columns stand above them.
    """
    strip_figure(rows, columns, title)
    plt.show()


def strip_figure(
    rows: Mapping[str, Tensor], columns: Sequence[str] = (), title: str = ""
) -> Figure:
    """Like `show_strips`, but returns the figure instead of showing it."""
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
    """Returns an animated PNG of the pictures (3, H, W). The last picture is shown for longer.

    It is a PNG because GitHub and exported pages keep animated PNGs, but remove GIFs and scripts.
    `scale` is the number of pixels a side that each pixel becomes.
    """
    pictures = [to_pillow(to_uint8(frame.detach().cpu())) for frame in frames]
    size = (pictures[0].width * scale, pictures[0].height * scale)
    return animated([p.resize(size, Image.Resampling.NEAREST) for p in pictures], milliseconds)


def film_of_figures(figures: Iterable[Figure], milliseconds: int = 120) -> NotebookImage:
    """Like `film`, but its frames are figures. Each figure is closed."""
    return animated([Image.open(io.BytesIO(png_of(f, crop=False))) for f in figures], milliseconds)


def animated(pictures: Sequence[Image.Image], milliseconds: int) -> NotebookImage:
    """Returns an endless animated PNG. The last picture is shown for 1.5 s."""
    buffer = io.BytesIO()
    durations = [milliseconds] * (len(pictures) - 1) + [1500]
    pictures[0].convert("RGB").save(
        buffer,
        "PNG",
        save_all=True,
        duration=durations,
        loop=0,
        append_images=[picture.convert("RGB") for picture in pictures[1:]],
    )
    return NotebookImage(data=buffer.getvalue(), format="png")


def png_of(figure: Figure, crop: bool = True) -> bytes:
    """Returns the figure as a PNG and closes it. Otherwise a notebook would show it twice.

    `crop` removes empty margins. Frames of a film are not cropped, because all must have one size.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight" if crop else None)
    plt.close(figure)
    return buffer.getvalue()


def _array(picture: Tensor) -> Image.Image:
    return to_pillow(to_uint8(picture.detach().cpu()))
