"""What the judge reads in drawn pictures, and pictures drawn of an image embedding alone."""

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.decoder import CHANNELS
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.evaluation.drawn import BATCH, draw_prompts
from minidalle2.evaluation.shapes.judge import Judge, read
from minidalle2.training.precision import half_precision

# The paper's way (section 2.2), which comparisons take: the better of two z_i, and one drawing, so
# that CLIP chooses among no drawings what a decoder did not bind.
ONE_DRAWING = Sampling(candidates=2, drawings=1)


def read_drawn(
    dalle2: DALLE2,
    judge: Judge,
    prompts: list[str],
    sampling: Sampling | None = None,
    image_embedding: Tensor | None = None,
    stage: str = "image128",
) -> dict[str, Tensor]:
    """What the judge reads in pictures of n prompts, as one of the stages leaves them: {head:
    (n, questions)}."""
    parts = [
        read(judge, getattr(made, stage))
        for made in draw_prompts(dalle2, prompts, sampling, image_embedding, stage)
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
            states = ddim(
                decoder.diffusion, denoise, x_T, sampling.decoder_steps, clip_to_image,
                lowest=decoder.lowest,
            )  # fmt: skip
            parts.append(last(states))
    return torch.cat(parts)
