"""Inpainting by RePaint (Lugmayr et al. 2022): redraws a part of a picture, keeps all other pixels.

At every noise level the known region is replaced by the given picture with noise of that level. The
network does not control this region, so the part that it draws would not match it well. Therefore
the sampler goes back up some noise levels by adding noise, and down again, several times. In these
repetitions the network adapts the unknown part to the known region. The paper does not describe
inpainting.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise, clip_to_image
from minidalle2.manipulations.inversion import captionless, side_of
from minidalle2.storage.input_pictures import Pictures, as_mask, as_pictures
from minidalle2.storage.inputs import Seeds


@dataclass
class Resampling:
    """How the noise levels are visited."""

    steps: int = 25  # number of noise levels
    jump: int = 5  # number of levels that the sampler goes down before it goes up again
    times: int = 5  # how often it goes down each of these levels; 1 means no resampling


@torch.no_grad()
def conditioned(
    dalle2: DALLE2, images: Pictures, caption: str | None, seeds: Seeds, guidance: float
) -> Denoiser:
    """The decoder with its conditions bound, for pictures (B, 3, 32, 32) and B seeds.

    With a caption, the conditions are the caption and the z_i that the prior predicts from it.
    Without a caption, the condition is the z_i of the given picture. Raises ValueError for an empty
    caption, PromptTooLong for a caption with too many tokens.
    """
    images = as_pictures(images, "images", side_of(dalle2.decoder), dalle2.device)
    guided_above = dalle2.sampling.decoder_guided_above
    if caption is None:
        z_i = dalle2.clip.encode_image(images)
        return captionless(dalle2.decoder, z_i, guidance, guided_above)
    made = dalle2.generate([caption] * len(images), seeds, stop_after="image_embeddings")
    z_i = made.image_embeddings[:, 0]
    return dalle2.decoder.denoiser(z_i, made.tokens, guidance, guided_above)


def itinerary(resampling: Resampling) -> list[int]:
    """The noise levels in the order of visits, from `steps` (noise) to 0 (clean).

    Successive levels differ by 1. For example, steps 4, jump 2 and times 2 give
    4 3 2 3 4 3 2 1 0 1 2 1 0. Raises ValueError for numbers below 1.
    """
    steps, jump, times = resampling.steps, resampling.jump, resampling.times
    if min(steps, jump, times) < 1:
        raise ValueError(f"steps, jump and times must be 1 or more, not {steps}, {jump}, {times}")
    levels = [steps]
    while levels[-1] > 0:
        start, end = levels[-1], max(levels[-1] - jump, 0)
        down, up = [*range(start - 1, end - 1, -1)], [*range(end + 1, start + 1)]
        levels += (down + up) * (times - 1) + down
    return levels


@torch.no_grad()
def inpaint(
    diffusion: Diffusion,
    denoise: Denoiser,
    images: Pictures,
    known: Pictures,
    resampling: Resampling,
    noise: Noise,
) -> Tensor:
    """Pictures (B, C, S, S) in [-1, 1], known (B, 1, S, S) bool → inpainted (B, C, S, S).

    `known` is True where a picture is kept. Known pixels do not change by a single bit. `denoise`
    has its conditions bound. `noise` has B seeds. Pictures and masks may have another form, too
    (storage/input_pictures.py). Raises ValueError if the mask does not fit the pictures.
    """
    images = as_pictures(images, "images")
    known = as_mask(known, "known", images.device)
    if len(known) not in (1, len(images)) or known.shape[2:] != images.shape[2:]:
        raise ValueError(
            f"the mask has the shape {tuple(known.shape)} for pictures of {tuple(images.shape)}; "
            "it needs the same size, and one row or as many rows as there are pictures"
        )
    timesteps = diffusion.timesteps(resampling.steps).flip(0)  # ascending
    alpha_bar = [1.0, *diffusion.schedule.alpha_bar[timesteps].tolist()]  # for each level
    levels = itinerary(resampling)

    def fresh() -> Tensor:
        return noise(*images.shape[1:]).to(images)

    x = fresh()
    for here, there in zip(levels, levels[1:], strict=False):
        if there > here:
            kept = alpha_bar[there] / alpha_bar[here]
            x = kept**0.5 * x + (1 - kept) ** 0.5 * fresh()
            continue
        t = torch.full((len(x),), int(timesteps[here - 1]), device=x.device)
        prediction = denoise(x, t)[:, : x.shape[1]]
        x0 = clip_to_image(diffusion.to_x0(prediction, x, t))
        unknown = _posterior(x0, x, alpha_bar[here], alpha_bar[there], fresh())
        true = alpha_bar[there] ** 0.5 * images + (1 - alpha_bar[there]) ** 0.5 * fresh()
        x = torch.where(known, true, unknown)
    return torch.where(known, images, x)


def _posterior(x0: Tensor, x_t: Tensor, here: float, there: float, eps: Tensor) -> Tensor:
    """A sample of q(x_s | x_t, x0) (Ho et al. 2020, equation 6).

    `here` is ᾱ at t, `there` is ᾱ at s.
    """
    beta = 1 - here / there
    mean = there**0.5 * beta * x0 + (here / there) ** 0.5 * (1 - there) * x_t
    variance = beta * (1 - there) / (1 - here)
    return mean / (1 - here) + variance**0.5 * eps
