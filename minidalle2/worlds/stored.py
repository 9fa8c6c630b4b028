"""Pictures kept on disk as uint8 at 128, 64 and 32 px, and batches of them at any size up to 128.

A file holds N pictures of 64,512 bytes (10,000 pictures: 645 MB) and is mapped into memory, not
read: the system keeps what is used as long as there is room, so many pictures need no more memory
than few.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIZES = (128, 64, 32)  # pixels a side, one after another in a picture's record
SIDE = SIZES[0]
RECORD = sum(3 * size * size for size in SIZES)  # bytes of a picture
CHUNK = 1024  # pictures held as floats at a time, before they are shrunk
CHECKOUT = Path(__file__).parents[2]


def cache_folder() -> Path:
    """$MINIDALLE2_CACHE, or .cache in the repository, or .cache/minidalle2 at home."""
    if os.environ.get("MINIDALLE2_CACHE"):
        return Path(os.environ["MINIDALLE2_CACHE"])
    inside = (CHECKOUT / "pyproject.toml").is_file() and os.access(CHECKOUT, os.W_OK)
    return CHECKOUT / ".cache" if inside else Path.home() / ".cache" / "minidalle2"


def write_pictures(path: Path, pictures: Iterable[Image.Image]) -> int:
    """RGB pictures of SIDE px into one file, which is there as a whole or not at all; → how many.

    `pictures` may be drawn or decoded while they are written: only one is held at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, n = path.with_name(f"{path.name}.{os.getpid()}.tmp"), 0
    try:
        with open(unfinished, "wb") as file:
            for picture in pictures:
                for size in SIZES:  # `reduce` averages over whole blocks of pixels
                    file.write(picture.reduce(SIDE // size).tobytes())
                n += 1
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return n


class Stored:
    """The pictures of a file that `write_pictures` made."""

    def __init__(self, path: Path, n: int):
        flat = torch.from_file(str(path), shared=False, size=n * RECORD, dtype=torch.uint8)
        bytes_each = [3 * size * size for size in SIZES]
        parts = flat.view(n, RECORD).split(bytes_each, dim=1)
        self._pixels = {  # size → (n, size, size, 3)
            size: part.unflatten(1, (size, size, 3))
            for size, part in zip(SIZES, parts, strict=True)
        }

    def pictures(self, rows: Tensor, size: int) -> Tensor:
        """(n,) numbers of pictures → (n, 3, size, size) in [-1, 1]; 1 to 128 px."""
        pixels = self._pixels[kept_size(size)]
        return torch.cat([shrunk(scaled(pixels[part]), size) for part in rows.split(CHUNK)])

    def crops(self, rows: Tensor, generator: torch.Generator, size: int) -> Tensor:
        """(n,) → (n, 3, size/4, size/4): windows of `pictures(rows, size)` at even pixels."""
        y, x = windows(len(rows), generator, size)
        return scaled(self._pixels[size][rows[:, None, None], y, x])


def shuffled(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n of the rows in random order; none comes twice before each has come once."""
    rounds = range(-(-n // len(rows)))
    order = [torch.randperm(len(rows), generator=generator) for _ in rounds]
    return rows[torch.cat(order)[:n]] if order else rows[:0]


def distinct(total: int, n: int, generator: torch.Generator) -> Tensor:
    """As `shuffled(torch.arange(total), …)` but other rows; the work is that of n, not of total."""
    if 2 * n >= total:
        return shuffled(torch.arange(total), n, generator)
    rows: dict[int, None] = {}  # in the order in which they are drawn
    while len(rows) < n:
        more = torch.randint(total, (n - len(rows),), generator=generator)
        rows |= dict.fromkeys(more.tolist())
    return torch.tensor(list(rows), dtype=torch.long)


def kept_size(size: int) -> int:
    """The least of SIZES that pictures of `size` px can be made of."""
    if not 1 <= size <= SIDE:
        raise ValueError(
            f"no pictures of {size} px: they are kept at {SIDE} px; 1 to {SIDE} would work"
        )
    return min(kept for kept in SIZES if kept >= size)


def windows(n: int, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
    """→ rows (n, size/4, 1) and columns (n, 1, size/4) of windows at even pixels of n pictures."""
    if size not in SIZES:
        raise ValueError(f"no crops of pictures of {size} px; {SIZES} would work")
    side = size // 4
    left, top = 2 * torch.randint((size - side) // 2 + 1, (2, n), generator=generator)
    within = torch.arange(side)
    return (top[:, None] + within)[:, :, None], (left[:, None] + within)[:, None, :]


def scaled(pixels: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 → (n, 3, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """(n, 3, S, S) → (n, 3, size, size)."""
    side = pictures.shape[-1]
    if side % size == 0:
        return F.avg_pool2d(pictures, side // size) if size < side else pictures
    return F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
