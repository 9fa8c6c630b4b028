"""CLIP's batches in worlds that are drawn with every attribute known."""

import torch
from torch import Tensor

from minidalle2.worlds.world import World

NEAR_MISSES = 0.75  # of a batch


def mostly_near_misses(
    world: World, n: int, generator: torch.Generator
) -> tuple[Tensor, list[str]]:
    """→ (n, 3, 32, 32) and n captions: most of them near misses, among which only binding tells
    pictures apart."""
    near = int(n * NEAR_MISSES)
    images, captions = world.captioned(n - near, generator)
    near_images, near_captions = world.near_misses(near, generator)
    return torch.cat((images, near_images)), captions + near_captions
