"""What training asks of a world: captioned pictures, near misses, and crops at full resolution."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.worlds.emoji.backgrounds import compose, sample_backgrounds
from minidalle2.worlds.emoji.captions import describe
from minidalle2.worlds.emoji.drawings import SIZES, pictures
from minidalle2.worlds.emoji.jitter import jitter
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.near_misses import sample_near_misses, sample_sheet
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.shapes.world import CROP, caption_rng
from minidalle2.worlds.stored import shuffled
from minidalle2.worlds.variation import varied

JITTERED = 0.5  # of the training pictures; the others are framed as the drawings are
SEEN = 32  # pixels, by CLIP
CLOSEST = 1.7  # times its size, at most


class Emoji:
    """The emoji world: drawings are kept, captions and backgrounds drawn afresh."""

    name = "emoji"
    enough = math.inf

    def captioned(
        self, n: int, generator: torch.Generator, split: str = "train", size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1] and their captions.

        No drawing comes twice before all have come once.
        """
        rows = shuffled(members(split), n, generator)
        backgrounds = sample_backgrounds(rows, generator)
        jittered = JITTERED if split == "train" else 0.0
        return _with_captions(rows, backgrounds, generator, size, jittered, says_all=False)

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """As `captioned`, from `train`, in groups of eight that differ in one thing."""
        rows, backgrounds = sample_near_misses(n, generator)
        return _with_captions(rows, backgrounds, generator, size, JITTERED, says_all=True)

    def sheet(self, n: int, generator: torch.Generator, size: int = 32) -> tuple[Tensor, list[str]]:
        """As `captioned`, from `train`, all by one hand and on one background: only what is drawn
        tells them apart."""
        rows, backgrounds = sample_sheet(n, generator)
        return _with_captions(rows, backgrounds, generator, size, JITTERED, says_all=False)

    def contrasting(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """A batch for CLIP: three eighths near misses, three a sheet, the rest by chance; varied,
        because the drawings are few, at twice the size, so that their strokes stay as sharp."""
        most = 3 * n // 8
        by_chance = shuffled(members("train"), n - 2 * most, generator)
        groups = (
            (*sample_near_misses(most, generator), True),
            (*sample_sheet(most, generator), False),
            (by_chance, sample_backgrounds(by_chance, generator), False),
        )
        parts = [
            _with_captions(rows, backgrounds, generator, 2 * SEEN, 0.0, says_all)
            for rows, backgrounds, says_all in groups
        ]
        images = varied(torch.cat([images for images, _ in parts]), generator, CLOSEST)
        return F.avg_pool2d(images, 2), [caption for _, captions in parts for caption in captions]

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random quarter-size windows of `train` pictures of `size` px,
        on whole pixels of the half-size picture, so that both resolutions of a crop align."""
        rows = shuffled(members("train"), n, generator)
        side = int(size * CROP)
        places = (size - side) // 2 + 1
        left, top = 2 * torch.randint(places, (2, n), generator=generator)
        x, y = (start[:, None] + torch.arange(side) for start in (left, top))  # (n, side)
        channels = torch.arange(4)[:, None, None]
        windows = pictures(size)[rows[:, None, None, None], channels, y[:, None, :, None],
                                 x[:, None, None, :]]  # fmt: skip
        return compose(windows, sample_backgrounds(rows, generator))


def _with_captions(
    rows: Tensor, backgrounds: Tensor, generator: torch.Generator, size: int, jittered: float,
    says_all: bool,
) -> tuple[Tensor, list[str]]:  # fmt: skip
    drawn = draw(rows, size)
    moved = (torch.rand(len(rows), generator=generator) < jittered).nonzero()[:, 0]
    if len(moved) and size >= min(SIZES):
        twice = min(2 * size, max(SIZES))
        drawn[moved] = jitter(pictures(twice)[rows[moved]].float(), size, generator)
    captions = describe(
        [drawings()[i] for i in rows.tolist()], backgrounds.tolist(), caption_rng(generator),
        says_all,
    )  # fmt: skip
    return compose(drawn, backgrounds), captions


def draw(rows: Tensor, size: int) -> Tensor:
    """(B,) rows of `drawings()` → (B, 4, size, size) float, 0 to 255, premultiplied RGBA."""
    if size >= min(SIZES):
        return pictures(size)[rows].float()
    return F.adaptive_avg_pool2d(pictures(min(SIZES))[rows].float(), size)
