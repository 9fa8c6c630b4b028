"""Tensors ⇄ PNG files, and a grid of many pictures with labels."""

import textwrap
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from minidalle2.storage.decode import Unreadable, square, upright_size, whole

T = TypeVar("T")
CELL = 128  # px; smaller pictures are enlarged in a grid so that their pixels can be seen
GAP = 12  # px between pictures
FONT_SIZE, LINE_HEIGHT = 14, 20  # px
LINES = 8  # most lines of a label; longer labels end with …
CHINESE_FONTS = (  # font files of Windows, macOS and Linux
    "msyh.ttc",
    "Hiragino Sans GB.ttc",
    "STHeiti Medium.ttc",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
)
INK, PAPER = (30, 30, 30), (255, 255, 255)


def save_png(picture: Tensor, path: Path) -> None:
    """Saves a picture (3, H, W) uint8."""
    to_pillow(picture).save(path)


def load_png(path: Path) -> Tensor:
    """→ (3, H, W) in [-1, 1]. Raises ValueError if there is no readable picture."""
    return from_pillow(read(path, whole)) / 127.5 - 1


def load_square(path: Path, side: int, paper: str = "white") -> Tensor:
    """A picture of any size, mode and format → its square centre (3, side, side) uint8.

    Pictures of a folder are cropped for training in the same way. `paper` is the colour behind
    transparent pixels. Raises ValueError if there is no readable picture.
    """
    return from_pillow(read(path, lambda data: square(data, side, paper)))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture, in the orientation of its EXIF data.

    Raises ValueError if there is no readable picture.
    """
    return read(path, upright_size)


def read(path: Path, decode: Callable[[bytes], T]) -> T:
    """Decodes a file. Raises ValueError with the path, the reason and the remedy."""
    try:
        return decode(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"there is no picture at {path}") from error
    except OSError as error:
        raise ValueError(f"can't read {path} ({error.strerror}); use a PNG") from error
    except Unreadable as error:
        raise ValueError(f"{path} is {error}") from error


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] → 0 to 255. Clamps and then rounds, so that 1.006 becomes 255 and not 0."""
    return ((images + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def to_pillow(picture: Tensor) -> Image.Image:
    """(3, H, W) uint8 → RGB."""
    _, height, width = picture.shape
    flat = picture.permute(1, 2, 0).flatten()
    return Image.frombytes("RGB", (width, height), bytes(flat.tolist()))


def from_pillow(image: Image.Image) -> Tensor:
    """RGB → (3, H, W) uint8."""
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width, 3).permute(2, 0, 1)


def labelled_grid(cells: list[tuple[str, list[Tensor]]], columns: int) -> Image.Image:
    """A grid of cells, row by row. A cell has pictures side by side and a label below them.

    `cells` are (label, pictures). All pictures are (3, S, S) uint8 of the same size.
    """
    side = cells[0][1][0].shape[-1]
    side *= max(1, CELL // side)
    width = max(len(pictures) for _, pictures in cells) * (side + GAP) - GAP
    font = font_for("".join(label for label, _ in cells))
    labels = [wrap(label, font, width) for label, _ in cells]
    rows = [labels[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [side + max(map(len, row)) * LINE_HEIGHT + GAP for row in rows]
    grid = Image.new("RGB", (columns * (width + GAP) + GAP, sum(heights) + GAP), PAPER)
    for i, (_, pictures) in enumerate(cells):
        row, column = divmod(i, columns)
        left, top = GAP + column * (width + GAP), GAP + sum(heights[:row])
        for k, picture in enumerate(pictures):
            enlarged = to_pillow(picture).resize((side, side), Image.Resampling.NEAREST)
            grid.paste(enlarged, (left + k * (side + GAP), top))
        text = "\n".join(labels[i])
        ImageDraw.Draw(grid).text((left, top + side + 4), text, INK, font, spacing=4)
    return grid


@cache
def font_for(text: str) -> ImageFont.FreeTypeFont:
    """Pillow's own font, or a Chinese font of the system if Pillow's font lacks a letter."""
    own = ImageFont.load_default(FONT_SIZE)
    missing = bytes(own.getmask("\uffff"))
    if not any(bytes(own.getmask(letter)) == missing for letter in set(text)):
        return own
    for name in CHINESE_FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, FONT_SIZE)
    return own  # shows a box for each missing letter


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Splits a text into at most LINES lines of at most `width` pixels. Splits long words, too."""
    text = " ".join(text.split()) or " "
    most = max(8, int(1.5 * width * len(text) / max(1, font.getlength(text))))
    for letters in range(most, 0, -1):
        lines = textwrap.wrap(text, letters, max_lines=LINES, placeholder="…") or [""]
        if letters == 1 or max(map(font.getlength, lines)) <= width:
            return lines
