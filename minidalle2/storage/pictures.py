"""Tensors ⇄ PNG files, and a grid of many pictures with labels."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from minidalle2.storage.decode import Unreadable, square, upright_size, whole
from minidalle2.storage.labels import LINE_HEIGHT, draw_label, wrap
from minidalle2.storage.ours import marked

T = TypeVar("T")
CELL = 128  # px; smaller pictures are enlarged in a grid so that their pixels can be seen
GAP = 12  # px between pictures
PAPER = (255, 255, 255)


def save_png(picture: Tensor, path: Path) -> None:
    """Saves a picture (3, H, W) uint8 as a PNG file that `is_ours` recognises."""
    save_image(to_pillow(picture), path)


def save_image(image: Image.Image, path: Path) -> None:
    """Saves a grid or a sheet as a PNG file that `is_ours` recognises."""
    image.save(path, pnginfo=marked())


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
    labels = [wrap(label, width) for label, _ in cells]
    rows = [labels[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [side + max(map(len, row)) * LINE_HEIGHT + GAP for row in rows]
    grid = Image.new("RGB", (columns * (width + GAP) + GAP, sum(heights) + GAP), PAPER)
    for i, (_, pictures) in enumerate(cells):
        row, column = divmod(i, columns)
        left, top = GAP + column * (width + GAP), GAP + sum(heights[:row])
        for k, picture in enumerate(pictures):
            enlarged = to_pillow(picture).resize((side, side), Image.Resampling.NEAREST)
            grid.paste(enlarged, (left + k * (side + GAP), top))
        draw_label(ImageDraw.Draw(grid), left, top + side + 4, labels[i])
    return grid
