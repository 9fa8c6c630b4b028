"""How much the networks have to compute for drawing, inversion and inpainting, for progress bars.

Each function returns the `Work` of n pictures. The calls of a network are known in advance from
the numbers of steps and the guidance.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from minidalle2.blocks.unet import UNetBlock
from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2, STAGES, Sampling
from minidalle2.decoder import Decoder
from minidalle2.diffusion.guidance import guided
from minidalle2.manipulations.inpainting import Resampling, itinerary
from minidalle2.manipulations.inversion import Walk
from minidalle2.prior import Prior
from minidalle2.priors.analytic_prior import AnalyticPrior
from minidalle2.priors.autoregressive_prior import AutoregressivePrior
from minidalle2.storage.progress import Work
from minidalle2.unclip import AnyPrior
from minidalle2.upsampler import Upsampler

# Time of one row in one call, in about 0.2 ms on one core. Only the time left depends on them.
OF_PRIOR, OF_CLIP, OF_BLOCK = 1, 10, 4  # of the prior, CLIP's image tower, a block of the decoder
OF_UPSAMPLER = 4_096 // 15  # pixels of the result for each unit


def calls(timesteps: Iterable[int], guidance: float, above: int = 0) -> int:
    """How often `guided` calls its network at these timesteps: once or twice at each of them."""
    made = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        made.append(t)
        return x_t

    denoise = guided(network, network, guidance, 1, above)
    for t in timesteps:
        denoise(torch.zeros(1, 1), torch.tensor([int(t)]))
    return len(made)


def prior_work(prior: AnyPrior, n: int, steps: int, guidance: float) -> list[Work]:
    """n candidates of a prior. A prior of an unknown kind is not counted."""
    if isinstance(prior, Prior):
        return [Work(prior, n, calls(prior.diffusion.timesteps(steps), guidance), OF_PRIOR)]
    if isinstance(prior, AnalyticPrior):
        return prior_work(prior.prior, n, prior.steps, guidance)
    if isinstance(prior, AutoregressivePrior):  # its layer `out` is called for each component
        twice = 1 if guidance == 1 else 2
        return [Work(prior.out, twice * n, prior.config.components, OF_PRIOR)]
    return []


def decoder_work(
    decoder: Decoder, timesteps: Iterable[int], guidance: float, guided_above: float, n: int
) -> list[Work]:
    """n drawings at these timesteps.

    The blocks of the U-Net are counted, because one call of the decoder can take seconds.
    """
    n_calls = calls(timesteps, guidance, round(guided_above * decoder.config.timesteps))
    blocks = [module for module in decoder.modules() if isinstance(module, UNetBlock)]
    return [Work(block, n, n_calls, OF_BLOCK) for block in blocks]


def image_work(clip: CLIP, n: int) -> Work:
    """n embeddings of pictures."""
    return Work(clip.image_tower, n, 1, OF_CLIP)


def upsampler_work(upsampler: Upsampler, steps: int, n: int) -> Work:
    return Work(upsampler, n, steps, max(1, upsampler.config.size**2 // OF_UPSAMPLER))


def drawing_work(
    dalle2: DALLE2,
    n: int,
    sampling: Sampling | None = None,
    stages: Iterable[str] = STAGES,
) -> list[Work]:
    """n pictures of `generate`. `stages` are those that run."""
    sampling, works = sampling or dalle2.sampling, []
    if "image_embeddings" in stages:
        rows = n * sampling.candidates
        works += prior_work(dalle2.prior, rows, sampling.prior_steps, sampling.prior_guidance)
    if "image32" in stages:
        timesteps = dalle2.decoder.diffusion.timesteps(sampling.decoder_steps)
        guidance, above = sampling.decoder_guidance, sampling.decoder_guided_above
        rows = n * sampling.drawings
        works += decoder_work(dalle2.decoder, timesteps, guidance, above, rows)
        works.append(image_work(dalle2.clip, rows))  # CLIP selects one of the drawings
    if "image64" in stages:
        works.append(upsampler_work(dalle2.upsampler64, sampling.upsampler64_steps, n))
    if "image128" in stages:
        works.append(upsampler_work(dalle2.upsampler128, sampling.upsampler128_steps, n))
    return works


def enlarging_work(dalle2: DALLE2, n: int, size: int) -> list[Work]:
    """n pictures of 32 px, enlarged to `size` px."""
    stages = [f"image{side}" for side in (64, 128) if side <= size]
    return drawing_work(dalle2, n, stages=stages)


def decoding_work(decoder: Decoder, walk: Walk, n: int) -> list[Work]:
    """n latents, decoded to pictures of 32 px."""
    timesteps = decoder.diffusion.timesteps(walk.steps)
    return decoder_work(decoder, timesteps, walk.guidance, walk.guided_above, n)


def inversion_work(clip: CLIP, decoder: Decoder, walk: Walk, n: int) -> list[Work]:
    """The latents of n pictures."""
    timesteps = decoder.diffusion.timesteps(walk.steps).repeat(1 + walk.refinements)
    works = decoder_work(decoder, timesteps, walk.guidance, walk.guided_above, n)
    return [image_work(clip, n), *works]


def inpainting_work(
    dalle2: DALLE2, caption: str | None, resampling: Resampling, guidance: float, n: int
) -> list[Work]:
    """n pictures, inpainted at 32 px. Without a caption, CLIP embeds the given pictures."""
    levels = itinerary(resampling)
    timesteps = dalle2.decoder.diffusion.timesteps(resampling.steps).flip(0)  # ascending
    down = [level for level, to in zip(levels, levels[1:], strict=False) if to < level]
    above = dalle2.sampling.decoder_guided_above
    works = decoder_work(dalle2.decoder, [timesteps[k - 1] for k in down], guidance, above, n)
    if caption is None:
        return [image_work(dalle2.clip, n), *works]
    return drawing_work(dalle2, n, stages=("image_embeddings",)) + works
