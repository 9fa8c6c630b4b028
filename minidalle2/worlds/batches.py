"""Functions that the worlds share when they make batches."""

import random
from typing import Protocol

import torch
from torch import Tensor

CROP = 0.25  # side of a training crop, as a share of the picture's side (paper, table 3)
NEAR_MISSES = 0.75  # share of near misses in a batch for CLIP

Pairs = tuple[Tensor, list[str]]  # pictures (n, 3, S, S) in [-1, 1] and their captions


class HasNearMisses(Protocol):
    def captioned(self, n: int, generator: torch.Generator) -> Pairs: ...

    def near_misses(self, n: int, generator: torch.Generator) -> Pairs: ...


def mostly_near_misses(world: HasNearMisses, n: int, generator: torch.Generator) -> Pairs:
    """→ (n, 3, 32, 32) pictures and n captions: most of them near misses, the others independent.

    Near misses differ in one attribute, or in which object has which colour. Therefore CLIP must
    learn both the attributes and their binding.
    """
    near = int(n * NEAR_MISSES)
    images, captions = world.captioned(n - near, generator)
    near_images, near_captions = world.near_misses(near, generator)
    return torch.cat((images, near_images)), captions + near_captions


def rows_of_pairs(pairs: Pairs, rows: slice) -> Pairs:
    """The selected rows of pictures and captions."""
    images, captions = pairs
    return images[rows], captions[rows]


def caption_rng(generator: torch.Generator) -> random.Random:
    """A plain Python generator for captions, seeded from the generator of the batch."""
    return random.Random(int(torch.randint(2**62, (), generator=generator)))
