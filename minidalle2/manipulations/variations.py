"""Variations of a picture: its z_i and x_T, and on the way down some new noise.

Paper: section 3.1, figure 3. DDIM's eta says how much: 0 gives the picture back, 1 forgets most of
x_T, and what all variations share is what is in z_i.
"""

import torch
from torch import Tensor

from minidalle2.decoder import Decoder
from minidalle2.diffusion.sampling import Noise
from minidalle2.manipulations.inversion import Latents, Walk, decode


def vary(decoder: Decoder, latents: Latents, eta: float, noise: Noise, walk: Walk) -> Tensor:
    """A variation of each of B pictures → (B, 3, 32, 32); `noise` has B seeds.

    For n variations of one picture repeat its latents (`repeated`). Raises ValueError for an eta
    outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta} is out of range; 0 (the same picture) to 1 would work")
    return decode(decoder, latents, walk, eta, noise)


def repeated(latents: Latents, n: int) -> Latents:
    """Each picture n times in a row: B → B·n."""
    return latents[torch.arange(len(latents)).repeat_interleave(n)]
