"""A part of a picture drawn anew, the rest kept to the pixel: RePaint (Lugmayr et al. 2022).

At every noise level the known region is replaced by the true picture, noised to that level, so that
the network goes on from there. What it draws beside it would fit badly, for at each step the
known region comes anew from outside; therefore it goes some levels up again, by adding noise, and
down once more, several times. Not in the paper, whose product had it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise, clip_to_image
from minidalle2.diffusion.schedule import spaced_timesteps
from minidalle2.manipulations.inversion import captionless


@dataclass
class Resampling:
    steps: int = 25
    jump: int = 5  # levels that are gone down, and up again
    times: int = 5  # how often each is gone down; 1 is no resampling


@torch.no_grad()
def conditioned(
    dalle2: DALLE2, images: Tensor, caption: str | None, seeds: list[int], guidance: float
) -> Denoiser:
    """The decoder bound to what each whole picture (B, 3, 32, 32) shall show: to a caption, with
    the z_i that the prior draws for it; or, without one, to what CLIP sees in the picture now.

    Raises as `generate` for a caption that is empty or too long.
    """
    if caption is None:
        return captionless(dalle2.decoder, dalle2.clip.encode_image(images), guidance)
    made = dalle2.generate([caption] * len(images), seeds, stop_after="image_embedding")
    return dalle2.decoder.denoiser(made.image_embedding, made.tokens, guidance)


def itinerary(resampling: Resampling) -> list[int]:
    """The levels to visit, from `steps` (noise) to 0 (clean): neighbours differ by 1.

    steps 4, jump 2, times 2 → 4 3 2 3 4 3 2 1 0 1 2 1 0. Raises ValueError for counts below 1.
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
    images: Tensor,
    known: Tensor,
    resampling: Resampling,
    noise: Noise,
) -> Tensor:
    """(B, C, S, S) pictures in [-1, 1], True in (B, 1, S, S) where they are kept → (B, C, S, S).

    `denoise` has its condition bound; `noise` has B seeds. Known pixels come back bit by bit.
    """
    timesteps = spaced_timesteps(len(diffusion.schedule), resampling.steps).flip(0)  # ascending
    alpha_bar = [1.0, *diffusion.schedule.alpha_bar[timesteps].tolist()]  # of each level
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
    """A draw from q(x_s | x_t, x0) between two levels, given as their ᾱ (Ho et al. 2020, eq. 6)."""
    beta = 1 - here / there
    mean = there**0.5 * beta * x0 + (here / there) ** 0.5 * (1 - there) * x_t
    variance = beta * (1 - there) / (1 - here)
    return mean / (1 - here) + variance**0.5 * eps
