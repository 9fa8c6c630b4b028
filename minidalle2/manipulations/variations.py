"""Variations of a picture: decodes its z_i and x_T, and adds new noise at every step.

Paper: section 3.1, figure 3. DDIM's eta says how much noise is added. With eta 0 the result is a
reconstruction of the picture, which is not exact. With eta 1, little of x_T is left, and the
variations have in common what z_i determines.
"""

import torch
from torch import Tensor

from minidalle2.decoder import Decoder
from minidalle2.diffusion.sampling import Noise
from minidalle2.manipulations.inversion import Latents, Walk, decode


def vary(decoder: Decoder, latents: Latents, eta: float, noise: Noise, walk: Walk) -> Tensor:
    """Latents of B pictures → one variation of each (B, 3, 32, 32). `noise` has B seeds.

    For n variations of each picture, repeat the latents with `repeated`. Raises ValueError if eta
    is not between 0 and 1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta} is out of range; 0 (a reconstruction) to 1 would work")
    return decode(decoder, latents, walk, eta, noise)


def repeated(latents: Latents, n: int) -> Latents:
    """The latents of B pictures → the latents of B·n pictures: each one n times in a row."""
    return latents[torch.arange(len(latents)).repeat_interleave(n)]
