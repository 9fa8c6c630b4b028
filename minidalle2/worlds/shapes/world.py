"""The shapes world: pictures of simple scenes and their captions, drawn when they are needed.

Letters: n pictures of a batch.
"""

import math

import torch
from torch import Tensor

from minidalle2.training.world import ALL_ROWS
from minidalle2.unclip import Sampling
from minidalle2.worlds.batches import CROP, Pairs, caption_rng, mostly_near_misses, rows_of_pairs
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.judge import JUDGE
from minidalle2.worlds.shapes.near_misses import sample_near_misses
from minidalle2.worlds.shapes.scenes import KINDS, Scenes, sample_scenes
from minidalle2.worlds.shapes.sizes import SIZES

VERSION = 1  # changes when the pictures or captions of a seed change


class Shapes:
    """No picture is stored. A batch depends on its generator only."""

    name = "shapes"
    summary = ""
    enough = math.inf
    forkable = True
    sizes = SIZES
    recipes: dict = {}
    sampling = Sampling()
    judge = JUDGE

    def __init__(self, kinds: tuple[str, ...] = KINDS):
        """`kinds` of scenes are a subset of KINDS."""
        self.kinds = kinds

    def captioned(
        self,
        n: int,
        generator: torch.Generator,
        split: str = "train",
        size: int = 32,
        rows: slice = ALL_ROWS,
    ) -> Pairs:
        """→ (n, 3, size, size) pictures in [-1, 1] and n captions, or the selected rows of them."""
        scenes = sample_scenes(n, split, generator, self.kinds)
        return rows_of_pairs(_with_captions(scenes, generator, split, size), rows)

    def near_misses(self, n: int, generator: torch.Generator, size: int = 32) -> Pairs:
        """Like `captioned` with `train`, in groups that differ in one attribute or one swap."""
        scenes = sample_near_misses(n, generator, self.kinds)
        return _with_captions(scenes, generator, "train", size)

    def contrasting(self, n: int, generator: torch.Generator, rows: slice = ALL_ROWS) -> Pairs:
        """A batch for CLIP: mostly near misses."""
        return rows_of_pairs(mostly_near_misses(self, n, generator), rows)

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): windows of pictures of `size` px that start at even pixels."""
        scenes = sample_scenes(n, "train", generator, self.kinds)
        places = size // 2 - int(size * CROP) // 2 + 1
        left, top = torch.randint(places, (2, n), generator=generator) / (size // 2)
        return draw(scenes, int(size * CROP), window=(left, top, CROP))

    def training_captions(self, n: int, generator: torch.Generator) -> list[str]:
        return self.captioned(n, generator, size=1)[1]

    def unreadable(self) -> str:
        return ""

    def contents(self) -> list[str]:
        """The version, and the kinds of scenes."""
        return [f"version {VERSION}", *self.kinds]


def _with_captions(scenes: Scenes, generator: torch.Generator, split: str, size: int) -> Pairs:
    return draw(scenes, size), describe(scenes, caption_rng(generator), split)
