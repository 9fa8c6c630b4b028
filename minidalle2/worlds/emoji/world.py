"""The emoji world for training: captioned pictures, near misses and crops.

Letters: n pictures of a batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.training.augmentation import varied
from minidalle2.training.world import ALL_ROWS
from minidalle2.unclip import Sampling
from minidalle2.worlds.batches import Pairs, caption_rng, rows_of_pairs
from minidalle2.worlds.emoji.backgrounds import compose, sample_backgrounds
from minidalle2.worlds.emoji.captions import describe
from minidalle2.worlds.emoji.drawings import SIZES as PICTURE_SIZES
from minidalle2.worlds.emoji.drawings import draw, fingerprint, pictures
from minidalle2.worlds.emoji.jitter import jitter
from minidalle2.worlds.emoji.judge import JUDGE
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.near_misses import sample_near_misses, sample_sheet
from minidalle2.worlds.emoji.sizes import RECIPES, SIZES
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.stored import shuffled, windows

JITTERED = 0.5  # share of the training pictures; the others have the drawing's own size and place
SEEN = 32  # pixels a side of CLIP's pictures
VERSION = 2  # changes when the captions or backgrounds of a seed change
CLOSEST = 1.7  # largest scale in CLIP's augmentation


class Emoji:
    """Drawings are stored. Captions and backgrounds are random and new in every batch."""

    name = "emoji"
    summary = ""
    enough = math.inf
    forkable = True
    sizes = SIZES
    recipes = RECIPES
    # At t below half of T, guidance would draw uneven texture on flat colours (docs/emoji.md).
    sampling = Sampling(decoder_guided_above=0.5)
    judge = JUDGE

    def captioned(
        self,
        n: int,
        generator: torch.Generator,
        split: str = "train",
        size: int = 32,
        rows: slice = ALL_ROWS,
    ) -> Pairs:
        """→ (n, 3, size, size) pictures in [-1, 1] and their captions.

        No drawing comes twice before each has come once.
        """
        chosen = shuffled(members(split), n, generator)
        backgrounds = sample_backgrounds(chosen, generator)
        jittered = JITTERED if split == "train" else 0.0
        pairs = _with_captions(chosen, backgrounds, generator, size, jittered, says_all=False)
        return rows_of_pairs(pairs, rows)

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """Like `captioned` with `train`, in groups of eight pictures that differ in one thing."""
        rows, backgrounds = sample_near_misses(n, generator)
        return _with_captions(rows, backgrounds, generator, size, JITTERED, says_all=True)

    def sheet(self, n: int, generator: torch.Generator, size: int = 32) -> tuple[Tensor, list[str]]:
        """Like `captioned` with `train`, but all in one style and on one background.

        Only the names differ.
        """
        rows, backgrounds = sample_sheet(n, generator)
        return _with_captions(rows, backgrounds, generator, size, JITTERED, says_all=False)

    def contrasting(self, n: int, generator: torch.Generator, rows: slice = ALL_ROWS) -> Pairs:
        """A batch for CLIP: 3/8 near misses, 3/8 a sheet, and 1/4 random pictures.

        All of them are augmented, because the drawings are few. Augmentation is at twice the size,
        and the result is averaged over 2 x 2 pixels, so that the strokes stay sharp.
        """
        most = 3 * n // 8
        by_chance = shuffled(members("train"), n - 2 * most, generator)
        groups = (
            (*sample_near_misses(most, generator), True),
            (*sample_sheet(most, generator), False),
            (by_chance, sample_backgrounds(by_chance, generator), False),
        )
        parts = [
            _with_captions(chosen, backgrounds, generator, 2 * SEEN, 0.0, says_all)
            for chosen, backgrounds, says_all in groups
        ]
        images = varied(torch.cat([images for images, _ in parts]), generator, CLOSEST)
        captions = [caption for _, captions in parts for caption in captions]
        return rows_of_pairs((F.avg_pool2d(images, 2), captions), rows)

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random windows of `train` pictures of `size` px.

        The windows start at even pixels, so that they align with the picture of half the size.
        """
        rows = shuffled(members("train"), n, generator)
        y, x = windows(n, generator, size)
        channels = torch.arange(4)[:, None, None]
        drawn = pictures(size)[rows[:, None, None, None], channels, y[:, None], x[:, None]]
        return compose(drawn, sample_backgrounds(rows, generator))

    def training_captions(self, n: int, generator: torch.Generator) -> list[str]:
        return self.captioned(n, generator, size=1)[1]

    def unreadable(self) -> str:
        return ""

    def contents(self) -> list[str]:
        """The version of captions and backgrounds, and a hash of the drawings."""
        return [f"version {VERSION}", fingerprint()]


def _with_captions(
    rows: Tensor,
    backgrounds: Tensor,
    generator: torch.Generator,
    size: int,
    jittered: float,
    says_all: bool,
) -> tuple[Tensor, list[str]]:
    drawn = draw(rows, size)
    moved = (torch.rand(len(rows), generator=generator) < jittered).nonzero()[:, 0]
    if len(moved) and size >= min(PICTURE_SIZES):
        twice = min(2 * size, max(PICTURE_SIZES))
        drawn[moved] = jitter(pictures(twice)[rows[moved]].float(), size, generator)
    captions = describe(
        [drawings()[i] for i in rows.tolist()],
        backgrounds.tolist(),
        caption_rng(generator),
        says_all,
    )
    return compose(drawn, backgrounds), captions
