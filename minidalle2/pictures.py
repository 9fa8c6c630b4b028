"""Tensors ⇄ PNG files, and many pictures with their labels in one."""

import textwrap
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from minidalle2.worlds.folder.decode import square

CELL = 128  # least side of a picture in a grid; smaller ones are enlarged, their pixels visible
GAP = 12
FONT_SIZE, LINE_HEIGHT = 14, 20
LINES = 8  # of a label; what is longer ends in …
CHINESE_FONTS = (  # files of Windows, macOS and Linux
    "msyh.ttc", "Hiragino Sans GB.ttc", "STHeiti Medium.ttc", "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc", "DroidSansFallbackFull.ttf",
)  # fmt: skip
INK, PAPER = (30, 30, 30), (255, 255, 255)


def save_png(picture: Tensor, path: Path) -> None:
    """(3, H, W) uint8."""
    to_pillow(picture).save(path)


def load_png(path: Path) -> Tensor:
    """→ (3, H, W) in [-1, 1]. Raises ValueError where there is no readable picture."""
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except FileNotFoundError as error:
        raise ValueError(f"there is no picture at {path}") from error
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not a readable picture; a PNG would be") from error
    return from_pillow(rgb) / 127.5 - 1


def load_square(path: Path, side: int) -> Tensor:
    """A picture of any size, mode and format → (3, side, side) uint8: its middle, as of a folder
    that is trained on. Raises ValueError where there is no readable picture."""
    try:
        return from_pillow(square(path.read_bytes(), side))
    except FileNotFoundError as error:
        raise ValueError(f"there is no picture at {path}") from error
    except OSError as error:
        raise ValueError(f"can't read {path} ({error.strerror}); a PNG would work") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a readable picture; a PNG would be") from error


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture that `load_square` has read, as it is to be looked at."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).size


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] → 0 to 255: clamp, then round. 1.006 must become 255, not wrap to 0."""
    return ((images + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def to_pillow(picture: Tensor) -> Image.Image:
    """(3, H, W) uint8 → RGB. By way of bytes, which needs no NumPy."""
    _, height, width = picture.shape
    flat = picture.permute(1, 2, 0).flatten()
    return Image.frombytes("RGB", (width, height), bytes(flat.tolist()))


def from_pillow(image: Image.Image) -> Tensor:
    """RGB → (3, H, W) uint8."""
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width, 3).permute(2, 0, 1)


def labelled_grid(cells: list[tuple[str, list[Tensor]]], columns: int) -> Image.Image:
    """Cells of (label, pictures side by side), row by row; the label stands below its pictures.

    Pictures are (3, H, W) uint8, all of one size.
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
    """Pillow's own font, or, where that lacks a letter, the system's Chinese one if it has one."""
    own = ImageFont.load_default(FONT_SIZE)
    missing = bytes(own.getmask("\uffff"))
    if not any(bytes(own.getmask(letter)) == missing for letter in set(text)):
        return own
    for name in CHINESE_FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, FONT_SIZE)
    return own  # which shows boxes


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels; too long words are broken."""
    text = " ".join(text.split()) or " "
    most = max(8, int(1.5 * width * len(text) / max(1, font.getlength(text))))
    for letters in range(most, 0, -1):
        lines = textwrap.wrap(text, letters, max_lines=LINES, placeholder="…") or [""]
        if letters == 1 or max(map(font.getlength, lines)) <= width:
            return lines
