"""Vector graphics → pixels. They are drawn once with resvg and stored in a cache folder.

A picture is RGBA, with the colours premultiplied by alpha, so that averages and backgrounds are
sums. Pictures are drawn at 128 px. Those of 64 px are averages of 2 x 2 pixels, and those of 32 px
are averages of 2 x 2 pixels of 64 px. Letters: N drawings, B pictures, S pixels a side.
"""

import hashlib
import io
import json
import lzma
import os
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from minidalle2.storage.locks import locked
from minidalle2.storage.progress import doing, each
from minidalle2.worlds.emoji.names import data_folder, drawings
from minidalle2.worlds.emoji.words import STYLES
from minidalle2.worlds.stored import cache_folder

SIZES = (32, 64, 128)
VERSION = 1  # of the way this file draws; increase it if pixels change


@cache
def read_style(style: str) -> dict:
    """The file of a style: `drawings` (key → SVG), `license`, `credit`, `source`, `changes`.

    Raises ValueError if it is missing or damaged.
    """
    path = data_folder() / f"{style}.json.xz"
    try:
        return json.loads(lzma.decompress(path.read_bytes()))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; restore it from the repository") from error
    except (lzma.LZMAError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it from the repository") from error


@cache
def pictures(size: int) -> Tensor:
    """(N, 4, size, size) uint8, one picture for each of `drawings()`, premultiplied RGBA.

    Raises ValueError unless `size` is one of SIZES.
    """
    if size not in SIZES:
        raise ValueError(
            f"there are no emoji of {size} px; {', '.join(map(str, SIZES))} px would work"
        )
    path = _cached(size)
    with doing(f"loading the emoji of {size} px"):
        kept = _load(path, size)
    if kept is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name("emoji.lock"), wait=True):  # another process may draw them
            if (kept := _load(path, size)) is None:
                _draw_all()
                kept = _load(path, size)
    return torch.from_numpy(kept)


def draw(rows: Tensor, size: int) -> Tensor:
    """Rows of `drawings()` (B,) → (B, 4, size, size) float from 0 to 255, premultiplied RGBA.

    Raises ValueError for sizes above 32 that are not in SIZES.
    """
    if size >= min(SIZES):
        return pictures(size)[rows].float()
    return F.adaptive_avg_pool2d(pictures(min(SIZES))[rows].float(), size)


def rasterise(svg: str, size: int) -> np.ndarray:
    """SVG → (4, size, size) uint8, premultiplied RGBA."""
    png = _resvg(svg, size)
    if png is None:  # drawing at twice the size works, and averaging gives the same quality
        return halve(rasterise(svg, 2 * size)[None])[0]
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).transpose(2, 0, 1)
    colour = (rgba[:3].astype(np.uint16) * rgba[3] + 127) // 255
    return np.concatenate((colour.astype(np.uint8), rgba[3:]))


def halve(pictures: np.ndarray) -> np.ndarray:
    """(N, 4, 2S, 2S) uint8 → (N, 4, S, S): rounded averages of 2 x 2 pixels."""
    total = sum(pictures[:, :, i::2, j::2].astype(np.uint16) for i in (0, 1) for j in (0, 1))
    return ((total + 2) // 4).astype(np.uint8)


def _resvg(svg: str, size: int) -> bytes | None:
    """SVG → PNG, or None if resvg 0.48 panics, as it does for some filters at some sizes."""
    try:
        import resvg_py
    except ImportError as error:
        raise ValueError(
            "the emoji are drawn at first use with resvg-py, which is not installed; "
            'pip install "minidalle2[emoji]" or pip install resvg-py would work'
        ) from error
    try:
        return resvg_py.svg_to_bytes(
            svg_string=svg, width=size, height=size, skip_system_fonts=True
        )
    except BaseException as error:  # resvg's PanicException is not an Exception
        if type(error).__name__ != "PanicException" or size >= 1024:
            raise
        return None


def _draw_all() -> None:
    """Draws every drawing and writes each size.

    All drawings at 128 px need about 0.6 GB of memory.
    """
    sources = [read_style(style)["drawings"][name.key] for name, style in drawings()]
    read_style.cache_clear()
    drawn = np.empty((len(sources), 4, max(SIZES), max(SIZES)), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # resvg releases Python's lock
        done = threads.map(lambda svg: rasterise(svg, max(SIZES)), sources)
        activity = "drawing the emoji (first use only)"
        for i, picture in enumerate(each(done, activity, len(sources))):
            drawn[i] = picture
    for size in sorted(SIZES, reverse=True):
        _save(drawn, _cached(size), f"storing the emoji of {size} px (first use only)")
        drawn = np.concatenate([halve(part) for part in np.array_split(drawn, 64)])


def _cached(size: int) -> Path:
    return cache_folder() / f"emoji-{fingerprint()}-{size}.npz"


@cache
def fingerprint() -> str:
    """A hash of the sources, of the order of the drawings, and of VERSION."""
    digest = hashlib.sha256(str(VERSION).encode())
    for name in ("names.jsonl", *(f"{style}.json.xz" for style in STYLES)):
        path = data_folder() / name
        if not path.exists():
            raise ValueError(f"{path} is missing; restore it from the repository")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _load(path: Path, size: int) -> np.ndarray | None:
    """The pictures in a file, or None if the file is incomplete or has another shape."""
    try:
        with np.load(path) as file:
            kept = file["pictures"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return kept if kept.shape == (len(drawings()), 4, size, size) else None


def _save(drawn: np.ndarray, path: Path, activity: str) -> None:
    """Writes a compressed file for np.load. It appears only when it is complete.

    The process may be stopped while it writes, and some file systems have no locks. The pictures
    are compressed a few at a time, so that the progress bar of `activity` moves.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed,
            packed.open("pictures.npy", "w", force_zip64=True) as file,
        ):
            facts = np.lib.format.header_data_from_array_1_0(drawn)
            np.lib.format.write_array_header_1_0(file, facts)
            for part in each(np.array_split(drawn, 64), activity):
                file.write(part.tobytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
