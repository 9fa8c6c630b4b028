"""Pictures and texts mixed: one z_i that lies between the z_i of all.

A text has no z_i of its own, and z_t can't stand in for it: text and image embeddings lie apart in
CLIP's space, and the decoder has seen the latter only (paper, section 5.1). The prior says which
picture it would be. Mixing is not in the paper, but in what was built after it.
"""

import torch.nn.functional as F
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.decoder import CHANNELS
from minidalle2.manipulations.inversion import Latents, decoder_noise


def mix(z: Tensor, shares: Tensor) -> Tensor:
    """(…, n, E) unit vectors, (…, n) shares → (…, E), unit length.

    The weighted sum, brought back to length 1: a sum of unit vectors is shorter than any of them.
    Raises ValueError where it has no direction.
    """
    total = (z * shares[..., None]).sum(-2)
    if (total.norm(dim=-1) < 1e-6).any():
        raise ValueError("these embeddings cancel each other out; other shares would work")
    return F.normalize(total, dim=-1)


def latents_of_text(dalle2: DALLE2, prompt: str, seed: int, sampling: Sampling) -> Latents:
    """A prompt as the latents of one picture (B = 1): the prior's z_i, and x_T of the seed."""
    made = dalle2.generate([prompt], [seed], sampling, stop_after="image_embedding")
    return Latents(made.image_embedding, starting_noise(dalle2, [seed]))


def starting_noise(dalle2: DALLE2, seeds: list[int]) -> Tensor:
    """x_T of seeds → (B, 3, 32, 32), what `generate` has for its first drawing."""
    size = dalle2.decoder.config.image_size
    return decoder_noise(seeds)(CHANNELS, size, size).to(dalle2.device)
