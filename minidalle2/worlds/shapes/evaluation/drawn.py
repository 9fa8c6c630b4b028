"""What the judge reads in drawings, and drawings from an image embedding alone.

Letters: n pictures, E embedding.
"""

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.decoder import CHANNELS
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.evaluation.drawn import BATCH, draw_prompts
from minidalle2.evaluation.work import decoder_work
from minidalle2.storage.progress import working
from minidalle2.worlds.shapes.judge import Judge, read

# Comparisons use the paper's way (section 2.2): the better of two z_i, and one drawing of it. If
# CLIP selected among several drawings, it would hide binding errors of the decoder.
ONE_DRAWING = Sampling(candidates=2, drawings=1)


def read_drawn(
    dalle2: DALLE2,
    judge: Judge,
    prompts: list[str],
    sampling: Sampling | None = None,
    image_embeddings: Tensor | None = None,
    stage: str = "image128",
    activity: str = "",
) -> dict[str, Tensor]:
    """Draws n prompts and returns what the judge reads: {head: (n, questions)}.

    `stage` is the size at which the judge reads: image32, image64 or image128. `activity` is for
    the progress bar.
    """
    parts = [
        read(judge, getattr(made, stage))
        for made in draw_prompts(dalle2, prompts, sampling, image_embeddings, stage, activity)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def reconstruct(dalle2: DALLE2, z_i: Tensor, sampling: Sampling = ONE_DRAWING) -> Tensor:
    """z_i (n, E), unit length → pictures (n, 3, 32, 32), drawn without a caption.

    The noise of row k depends on k only. So the rows of two calls can be compared.
    """
    decoder, parts = dalle2.decoder, []
    size = decoder.config.image_size
    guidance, above = sampling.decoder_guidance, sampling.decoder_guided_above
    timesteps = decoder.diffusion.timesteps(sampling.decoder_steps)
    works = decoder_work(decoder, timesteps, guidance, above, len(z_i))
    with working(f"drawing {len(z_i)} image embeddings", works):
        for i in range(0, len(z_i), BATCH):
            part = z_i[i : i + BATCH].to(dalle2.device)
            tokens = dalle2.tokenizer([""] * len(part)).to(dalle2.device)
            x_T = Noise(list(range(i, i + len(part))))(CHANNELS, size, size).to(dalle2.device)
            denoise = decoder.denoiser(part, tokens, guidance, above)
            states = ddim(decoder.diffusion, denoise, x_T, sampling.decoder_steps, clip_to_image)
            parts.append(last(states))
    return torch.cat(parts)
