"""The training data of the priors: captioned pictures, embedded once by the frozen CLIP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.storage.progress import each
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.precision import half_precision
from minidalle2.training.world import World

AT_ONCE = 1_000  # pictures
FIRST_SEED = 1_000_000_007  # different from the seed of every training step


@dataclass
class Embedded:
    z_i: Tensor  # (N, E), on the CPU like z_t
    z_t: Tensor  # (N, E)
    captions: list[str]  # N
    tokenizer: Tokenizer

    def draw(
        self, n: int, generator: torch.Generator, rows: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """→ z_i and z_t (n, E), tokens (n, T), of which only `rows` are returned."""
        chosen = torch.randint(len(self.captions), (n,), generator=generator)[rows]
        tokens = self.tokenizer.cut([self.captions[row] for row in chosen.tolist()])
        return self.z_i[chosen], self.z_t[chosen], tokens


Batches = Callable[[int, torch.Generator], Any]


def embed(
    world: World,
    clip: CLIP,
    tokenizer: Tokenizer,
    n: int,
    prefetch: Callable[[Batches], Batches] = lambda batches: batches,
) -> Embedded:
    """At least n pictures of `train` and their captions, embedded on CLIP's device.

    `prefetch` may turn the source of batches into one that makes them ahead.
    """
    device, z_i, z_t, captions = next(clip.parameters()).device, [], [], []
    batches = prefetch(world.captioned)
    for part in each(range(-(-n // AT_ONCE)), "embedding pictures"):
        images, said = batches(AT_ONCE, torch.Generator().manual_seed(FIRST_SEED + part))
        with torch.no_grad(), half_precision(device):
            z_i.append(clip.encode_image(images.to(device)).cpu())
            z_t.append(clip.encode_text(tokenizer.cut(said).to(device)).cpu())
        captions += said
    return Embedded(torch.cat(z_i), torch.cat(z_t), captions, tokenizer)
