"""What training asks of a world: captioned pictures, near misses, and crops at full resolution."""

import math
import random

import torch
from torch import Tensor

from minidalle2.worlds.contrasting import mostly_near_misses
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.near_misses import sample_near_misses
from minidalle2.worlds.shapes.scenes import KINDS, Scenes, sample_scenes

CROP = 0.25  # side of a training crop, in sides of the picture (paper, table 3)


class Shapes:
    """The shapes world; nothing is stored, every batch is drawn afresh from its generator."""

    name = "shapes"
    enough = math.inf

    def __init__(self, kinds: tuple[str, ...] = KINDS):
        """`kinds` of scenes that there are, some of KINDS."""
        self.kinds = kinds

    def captioned(
        self, n: int, generator: torch.Generator, split: str = "train", size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1] and their captions."""
        return _with_captions(
            sample_scenes(n, split, generator, self.kinds), generator, split, size
        )

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """As `captioned`, from `train`, in groups that differ in one attribute or one swap."""
        return _with_captions(
            sample_near_misses(n, generator, self.kinds), generator, "train", size
        )

    def contrasting(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """A batch for CLIP."""
        return mostly_near_misses(self, n, generator)

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random quarter-size windows of pictures of `size` px, on whole
        pixels of the half-size picture, so that both resolutions of a crop align."""
        scenes = sample_scenes(n, "train", generator, self.kinds)
        places = size // 2 - int(size * CROP) // 2 + 1
        left, top = torch.randint(places, (2, n), generator=generator) / (size // 2)
        return draw(scenes, int(size * CROP), window=(left, top, CROP))


def caption_rng(generator: torch.Generator) -> random.Random:
    """Captions are chosen in plain Python, from the same seed as everything else."""
    return random.Random(int(torch.randint(2**62, (), generator=generator)))


def _with_captions(
    scenes: Scenes, generator: torch.Generator, split: str, size: int
) -> tuple[Tensor, list[str]]:
    return draw(scenes, size), describe(scenes, caption_rng(generator), split)
