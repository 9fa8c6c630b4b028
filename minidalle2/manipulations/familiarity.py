"""How well a model knows a picture: how exactly it restores the picture from slight noise.

Picture (B, 3, 32, 32) → PSNR in dB (B,). CLIP computes z_i. The decoder gets z_i, the empty caption
and the picture with the noise of the sampler's last step, and estimates the clean picture. It does
so more exactly for pictures like those of its training. Flat pictures are easy to restore, so a
flat picture of another kind can have a high PSNR, too.
"""

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.decoder import Decoder
from minidalle2.manipulations.inversion import captionless, psnr
from minidalle2.storage.input_pictures import FARTHEST

NOISES = 4  # the estimates of each picture, from different noise
LEAST = 50  # the noise is that of timestep T / LEAST or of a later one


@torch.no_grad()
def restored(clip: CLIP, decoder: Decoder, images: Tensor) -> Tensor:
    """Pictures (B, 3, 32, 32) in [-1, 1], on the device of the networks → PSNR in dB (B,).

    The noise is the same for every picture and in every call.
    """
    denoise = captionless(decoder, clip.encode_image(images), guidance=1.0)
    diffusion, generator = decoder.diffusion, torch.Generator().manual_seed(0)
    lowest = max(diffusion.lowest, len(diffusion.schedule) // LEAST)
    t = torch.full((len(images),), lowest, device=images.device)
    errors = []
    for _ in range(NOISES):
        noise = torch.randn(1, *images.shape[1:], generator=generator).to(images).expand_as(images)
        x_t = diffusion.add_noise(images, t, noise)
        estimate = diffusion.to_x0(denoise(x_t, t)[:, : images.shape[1]], x_t, t)
        # The estimate of a badly trained decoder can be far outside of what psnr accepts.
        errors.append(psnr(estimate.clamp(-FARTHEST, FARTHEST), images))
    return torch.stack(errors).mean(0)
