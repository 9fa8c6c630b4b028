"""Pictures of prompts, batch by batch, and what CLIP sees in pictures: for the evaluation of all
worlds."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2, Generation, Sampling
from minidalle2.training.precision import half_precision

BATCH = 50


def draw_prompts(
    dalle2: DALLE2,
    prompts: list[str],
    sampling: Sampling | None = None,
    image_embedding: Tensor | None = None,
    stop_after: str = "image128",
) -> Iterator[Generation]:
    """Yields what `generate` makes of BATCH prompts at a time; seeds count up from 0."""
    for i in range(0, len(prompts), BATCH):
        part = prompts[i : i + BATCH]
        z_i = None if image_embedding is None else image_embedding[i : i + BATCH]
        with half_precision(dalle2.device):  # as in training; twice as fast
            made = dalle2.generate(
                part, list(range(i, i + len(part))), sampling,
                stop_after=stop_after, image_embedding=z_i,
            )  # fmt: skip
        yield made  # outside: whoever reads the pictures reads them in full precision


@torch.no_grad()
def embed(clip: CLIP, images: Tensor) -> Tensor:
    """(n, 3, S, S) pictures → CLIP's unit z_i (n, E), on the CPU."""
    device = next(clip.parameters()).device
    return torch.cat([clip.encode_image(part.to(device)).cpu() for part in images.split(500)])
