"""Mixtures of pictures and texts: one z_i that is the weighted mean of several z_i.

A text has no z_i. Its z_t can't be used as z_i, because text and image embeddings lie in different
regions of CLIP's space and the decoder was trained on image embeddings only (paper, section 5.1).
Therefore the prior predicts a z_i for each text. The paper has no mixtures of more than two
pictures.
"""

import torch.nn.functional as F
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.decoder import CHANNELS
from minidalle2.manipulations.inversion import Latents, decoder_noise
from minidalle2.storage.inputs import Numbers, Seeds, as_floats


def mix(z: Numbers, shares: Numbers) -> Tensor:
    """Unit vectors (…, n, E), shares (…, n) → their weighted sum (…, E), normalised to unit length.

    A weighted mean of different unit vectors is shorter than 1. Raises ValueError if the sum is 0,
    because then it has no direction, and for NaN.
    """
    z = as_floats(z, "z")
    shares = as_floats(shares, "shares", z.device)
    if z.ndim < 2 or shares.shape[-1:] != z.shape[-2:-1]:
        raise ValueError(
            f"there are shares of the shape {tuple(shares.shape)} for embeddings of the shape "
            f"{tuple(z.shape)}; (…, n) for (…, n, E) would work"
        )
    total = (z * shares[..., None]).sum(-2)
    if (total.norm(dim=-1) < 1e-6).any():
        raise ValueError("these embeddings cancel each other out; use other shares")
    return F.normalize(total, dim=-1)


def latents_of_text(dalle2: DALLE2, prompt: str, seed: int, sampling: Sampling) -> Latents:
    """The latents of one picture of the prompt (B = 1): the prior's z_i, and x_T of the seed."""
    made = dalle2.generate([prompt], [seed], sampling, stop_after="image_embeddings")
    return Latents(made.image_embeddings[:, 0], starting_noise(dalle2, [seed]))


def starting_noise(dalle2: DALLE2, seeds: Seeds) -> Tensor:
    """x_T (B, 3, 32, 32) of B seeds, equal to the noise of the first drawing of `generate`."""
    size = dalle2.decoder.config.image_size
    return decoder_noise(seeds)(CHANNELS, size, size).to(dalle2.device)
