"""Draws pictures of many prompts in batches, and embeds pictures with CLIP.

Both use the same functions and the same precision as `generate`. Letters: E embedding, S pixels a
side, n pictures.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2, Generation, Sampling, stages_between
from minidalle2.evaluation.work import drawing_work
from minidalle2.storage.progress import each, working
from minidalle2.tokenizer import as_texts

BATCH = 50


def draw_prompts(
    dalle2: DALLE2,
    prompts: str | list[str],
    sampling: Sampling | None = None,
    image_embeddings: Tensor | None = None,
    stop_after: str = "image128",
    activity: str = "",
) -> Iterator[Generation]:
    """Yields the result of `generate` for every BATCH prompts. Prompt k has seed k.

    `image_embeddings` are (n, E) or (n, k, E), as in `generate`; without them, the prior makes
    them. `activity` is for the progress bar.
    """
    prompts = as_texts(prompts)
    stages = stages_between({"image_embeddings": image_embeddings}, stop_after)
    activity = activity or f"drawing {len(prompts)} pictures"
    with working(activity, drawing_work(dalle2, len(prompts), sampling, stages)):
        for i in range(0, len(prompts), BATCH):
            part = prompts[i : i + BATCH]
            z_i = None if image_embeddings is None else image_embeddings[i : i + BATCH]
            seeds = list(range(i, i + len(part)))
            yield dalle2.generate(
                part, seeds, sampling, stop_after=stop_after, image_embeddings=z_i
            )


@torch.no_grad()
def embed(clip: CLIP, images: Tensor) -> Tensor:
    """(n, 3, S, S) pictures in [-1, 1] → CLIP's z_i (n, E), unit length, on the CPU."""
    device = next(clip.parameters()).device
    parts = each(images.split(500), "embedding pictures")
    return torch.cat([clip.encode_image(part.to(device)).cpu() for part in parts])
