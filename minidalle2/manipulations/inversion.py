"""A picture's two latents: z_i, what CLIP sees in it, and x_T, all else that gives it back.

(B, 3, 32, 32) picture → z_i (B, E) by CLIP, x_T (B, 3, 32, 32) by the decoder's DDIM run backwards
with that z_i → the picture again. Paper: section 3. Manipulations change one and keep the other.
The way up and the way down must agree: the same timesteps, caption (none) and guidance, eta 0, and
estimates of x0 that nothing clips. The learned variance plays no part in DDIM.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.decoder import LOWEST, Decoder
from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.sampling import Noise, ddim, ddim_inversion, last
from minidalle2.tokenizer import END, START


@dataclass
class Walk:
    """How the decoder's noise levels are walked, up and down alike."""

    steps: int = 50
    guidance: float = 1.0  # 1: with z_i alone; more draws z_i clearer, and is inverted less exactly
    refinements: int = 0  # of each step up: how often it asks again where it would arrive
    lowest: int = LOWEST  # the cleanest timestep that is visited


@dataclass
class Latents:
    """A picture in two parts, or B pictures."""

    z_i: Tensor  # (B, E), unit length
    x_T: Tensor  # (B, 3, 32, 32)

    def __len__(self) -> int:
        return len(self.z_i)

    def __getitem__(self, index: slice | Tensor | list[int]) -> "Latents":
        """Some of the pictures; an index that keeps the batch dimension."""
        return Latents(self.z_i[index], self.x_T[index])

    @classmethod
    def joined(cls, parts: "list[Latents]") -> "Latents":
        return cls(torch.cat([p.z_i for p in parts]), torch.cat([p.x_T for p in parts]))


@torch.no_grad()
def invert(clip: CLIP, decoder: Decoder, images: Tensor, walk: Walk) -> Latents:
    """(B, 3, 32, 32) in [-1, 1], on the networks' device → their latents."""
    z_i = clip.encode_image(images)
    denoise = captionless(decoder, z_i, walk.guidance)
    states = ddim_inversion(
        decoder.diffusion, denoise, images, walk.steps, walk.refinements, walk.lowest
    )
    return Latents(z_i, last(states))


@torch.no_grad()
def decode(
    decoder: Decoder, latents: Latents, walk: Walk, eta: float = 0.0, noise: Noise | None = None
) -> Tensor:
    """→ (B, 3, 32, 32) in [-1, 1]: with eta 0 the picture that was inverted, with more and a
    `noise` one like it. Only the finished picture is clipped: a clip on the way would not be met
    again on the way up."""
    denoise = captionless(decoder, latents.z_i, walk.guidance)
    states = ddim(
        decoder.diffusion, denoise, latents.x_T, walk.steps, eta=eta, noise=noise,
        lowest=walk.lowest,
    )  # fmt: skip
    return last(states).clamp(-1, 1)


def decoder_noise(seeds: list[int]) -> Noise:
    """The decoder's stream of each seed, as `generate` has it (dalle2.py)."""
    return Noise([4 * seed + 1 for seed in seeds])


def captionless(decoder: Decoder, z_i: Tensor, guidance: float) -> Denoiser:
    """The decoder bound to z_i and the empty caption, which half of training had (section 2.1)."""
    tokens = torch.tensor([[START, END]], device=z_i.device).expand(len(z_i), -1)
    return decoder.denoiser(z_i, tokens, guidance)


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each of B pictures in [-1, 1], in dB → (B,)."""
    error = ((images - others) / 2).square().flatten(1).mean(1)  # of pixels in [0, 1]
    return -10 * error.clamp(min=1e-12).log10()


def error_against_steps(
    clip: CLIP, decoder: Decoder, images: Tensor, steps: list[int], refinements: int = 0
) -> dict[int, Tensor]:
    """How well pictures come back from their latents: {steps: PSNR in dB (B,)}."""
    errors = {}
    for n in steps:
        walk = Walk(n, refinements=refinements)
        errors[n] = psnr(decode(decoder, invert(clip, decoder, images, walk), walk), images)
    return errors
