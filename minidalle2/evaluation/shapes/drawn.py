"""Drawn pictures for evaluation: of prompts, and of an image embedding alone; and what is read."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Generation, Sampling
from minidalle2.decoder import CHANNELS
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.evaluation.shapes.judge import Judge, read
from minidalle2.training.loop import half_precision

BATCH = 50
# The paper's way (section 2.2), which comparisons take: the better of two z_i, and one drawing, so
# that CLIP chooses among no drawings what a decoder did not bind.
ONE_DRAWING = Sampling(candidates=2, drawings=1)


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
            yield dalle2.generate(
                part, list(range(i, i + len(part))), sampling,
                stop_after=stop_after, image_embedding=z_i,
            )  # fmt: skip


def read_drawn(
    dalle2: DALLE2,
    judge: Judge,
    prompts: list[str],
    sampling: Sampling | None = None,
    image_embedding: Tensor | None = None,
) -> dict[str, Tensor]:
    """What the judge reads in pictures of n prompts at 128 px: {head: (n, questions)}."""
    parts = [
        read(judge, made.image128)
        for made in draw_prompts(dalle2, prompts, sampling, image_embedding)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def reconstruct(dalle2: DALLE2, z_i: Tensor, sampling: Sampling = ONE_DRAWING) -> Tensor:
    """Unit z_i (n, E) → (n, 3, 32, 32), drawn from z_i alone, the caption dropped; the noise of
    row k depends on k only, so rows of two calls can be compared."""
    decoder, parts = dalle2.decoder, []
    size = decoder.config.image_size
    for i in range(0, len(z_i), BATCH):
        part = z_i[i : i + BATCH].to(dalle2.device)
        tokens = dalle2.tokenizer([""] * len(part)).to(dalle2.device)
        x_T = Noise(list(range(i, i + len(part))))(CHANNELS, size, size).to(dalle2.device)
        with half_precision(dalle2.device):
            denoise = decoder.denoiser(part, tokens, sampling.decoder_guidance)
            states = ddim(decoder.diffusion, denoise, x_T, sampling.decoder_steps, clip_to_image)
            parts.append(last(states))
    return torch.cat(parts)


@torch.no_grad()
def embed(dalle2: DALLE2, images: Tensor) -> Tensor:
    """(n, 3, S, S) pictures → CLIP's unit z_i (n, E), on the CPU."""
    parts = [
        dalle2.clip.encode_image(images[i : i + 500].to(dalle2.device)).cpu()
        for i in range(0, len(images), 500)
    ]
    return torch.cat(parts)
