"""Pictures stored on disk as uint8 at 128, 64 and 32 px, and batches of them at any size up to 128.

A file has 64,512 bytes for each of its N pictures (10,000 pictures: 645 MB). It is mapped into
memory instead of read: the operating system keeps the used parts in memory while there is room.
Therefore a file with many pictures needs no more memory than a file with few. Letters: n pictures
of a batch, S pixels a side.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIZES = (128, 64, 32)  # pixels a side, in the order in which a record contains them
SIDE = SIZES[0]
RECORD = sum(3 * size * size for size in SIZES)  # bytes of a picture at all sizes
CHUNK = 1024  # pictures that are converted to float and shrunk at a time
CHECKOUT = Path(__file__).parents[2]


def cache_folder() -> Path:
    """Returns $MINIDALLE2_CACHE, or .cache in the repository, or ~/.cache/minidalle2."""
    if os.environ.get("MINIDALLE2_CACHE"):
        return Path(os.environ["MINIDALLE2_CACHE"])
    inside = (CHECKOUT / "pyproject.toml").is_file() and os.access(CHECKOUT, os.W_OK)
    return CHECKOUT / ".cache" if inside else Path.home() / ".cache" / "minidalle2"


def stable_hash(data: bytes) -> int:
    """64 bits that are the same in every process. Python's own hash differs between processes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def write_pictures(path: Path, pictures: Iterable[Image.Image]) -> int:
    """Writes RGB pictures of SIDE px into one file and returns their number.

    The file appears only when it is complete. `pictures` may be drawn or decoded while they are
    written, because only one picture is in memory at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, n = path.with_name(f"{path.name}.{os.getpid()}.tmp"), 0
    try:
        with open(unfinished, "wb") as file:
            for picture in pictures:
                for size in SIZES:  # `reduce` averages blocks of pixels
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
        """Numbers of pictures (n,) → (n, 3, size, size) in [-1, 1], for sizes from 1 to 128 px.

        Raises ValueError for other sizes.
        """
        pixels = self._pixels[kept_size(size)]
        return torch.cat([shrunk(scaled(pixels[part]), size) for part in rows.split(CHUNK)])

    def crops(self, rows: Tensor, generator: torch.Generator, size: int) -> Tensor:
        """(n,) → (n, 3, size/4, size/4): windows of `pictures(rows, size)` that start at even
        pixels.
        """
        y, x = windows(len(rows), generator, size)
        return scaled(self._pixels[size][rows[:, None, None], y, x])


def shuffled(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Returns n of the rows in random order. No row comes twice before each row has come once."""
    rounds = range(-(-n // len(rows)))
    order = [torch.randperm(len(rows), generator=generator) for _ in rounds]
    return rows[torch.cat(order)[:n]] if order else rows[:0]


def distinct(total: int, n: int, generator: torch.Generator) -> Tensor:
    """Like `shuffled(torch.arange(total), n, …)`, but draws other rows.

    Time and memory grow with n, not with `total`.
    """
    if 2 * n >= total:
        return shuffled(torch.arange(total), n, generator)
    rows: dict[int, None] = {}  # in the order in which they are drawn
    while len(rows) < n:
        more = torch.randint(total, (n - len(rows),), generator=generator)
        rows |= dict.fromkeys(more.tolist())
    return torch.tensor(list(rows), dtype=torch.long)


def kept_size(size: int) -> int:
    """The smallest of SIZES from which pictures of `size` px can be made."""
    if not 1 <= size <= SIDE:
        raise ValueError(
            f"there are no pictures of {size} px; sizes from 1 to {SIDE} px would work"
        )
    return min(kept for kept in SIZES if kept >= size)


def windows(n: int, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
    """→ rows (n, size/4, 1) and columns (n, 1, size/4) of windows in n pictures of `size` px.

    The windows start at even pixels. Raises ValueError unless `size` is one of SIZES.
    """
    if size not in SIZES:
        raise ValueError(
            f"there are no crops of pictures of {size} px; "
            f"{', '.join(map(str, SIZES))} px would work"
        )
    side = size // 4
    left, top = 2 * torch.randint((size - side) // 2 + 1, (2, n), generator=generator)
    within = torch.arange(side)
    return (top[:, None] + within)[:, :, None], (left[:, None] + within)[:, None, :]


def scaled(pixels: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 → (n, 3, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """(n, 3, S, S) → (n, 3, size, size), size ≤ S."""
    side = pictures.shape[-1]
    if side % size == 0:
        return F.avg_pool2d(pictures, side // size) if size < side else pictures
    return F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
