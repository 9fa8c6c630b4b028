"""The two latents of a picture: z_i, which CLIP computes, and x_T, which has everything else.

Picture (B, 3, 32, 32) → z_i (B, E) by CLIP and x_T (B, 3, 32, 32) by DDIM inversion of the decoder
with this z_i. DDIM from x_T with the same z_i reconstructs the picture, but not exactly: the error
depends on the picture, the decoder and the number of steps (`psnr`). Paper: section 3.
Manipulations change one latent and keep the other. Inversion and decoding must have the same
timesteps, no caption, the same guidance, eta 0 and no clipping of x0. DDIM does not use the learned
variance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.decoder import Decoder
from minidalle2.diffusion.guidance import Denoiser
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise, State, ddim, last
from minidalle2.tokenizer import END, START
from minidalle2.unclip import stage_noise


@dataclass
class Walk:
    """How the decoder is sampled, both in the inversion and in the decoding."""

    steps: int = 50
    guidance: float = 1.0  # above 1, z_i is drawn more clearly, but the inversion is less exact
    refinements: int = 0  # how often each step of the inversion is repeated with a better guess
    guided_above: float = 0.0  # share of T below which there is no guidance


@dataclass
class Latents:
    """The latents of B pictures."""

    z_i: Tensor  # (B, E), unit length
    x_T: Tensor  # (B, 3, 32, 32)

    def __len__(self) -> int:
        return len(self.z_i)

    def __getitem__(self, index: slice | Tensor | list[int]) -> "Latents":
        """The latents of some of the pictures. The index must keep the batch dimension."""
        return Latents(self.z_i[index], self.x_T[index])

    @classmethod
    def joined(cls, parts: "list[Latents]") -> "Latents":
        """The latents of all parts, one after another."""
        return cls(torch.cat([p.z_i for p in parts]), torch.cat([p.x_T for p in parts]))


@torch.no_grad()
def invert(clip: CLIP, decoder: Decoder, images: Tensor, walk: Walk) -> Latents:
    """Pictures (B, 3, 32, 32) in [-1, 1], on the device of the networks → their latents."""
    z_i = clip.encode_image(images)
    denoise = captionless(decoder, z_i, walk.guidance, walk.guided_above)
    states = ddim_inversion(decoder.diffusion, denoise, images, walk.steps, walk.refinements)
    return Latents(z_i, last(states))


@torch.no_grad()
def decode(
    decoder: Decoder, latents: Latents, walk: Walk, eta: float = 0.0, noise: Noise | None = None
) -> Tensor:
    """Latents → pictures (B, 3, 32, 32) in [-1, 1].

    With eta 0 the result is a reconstruction of the picture that was inverted. With a larger eta,
    and `noise` of B seeds, it is a similar picture. Only the finished picture is clipped. Clipped
    estimates of x0 would not be those of the inversion.
    """
    denoise = captionless(decoder, latents.z_i, walk.guidance, walk.guided_above)
    states = ddim(decoder.diffusion, denoise, latents.x_T, walk.steps, eta=eta, noise=noise)
    return last(states).clamp(-1, 1)


def ddim_inversion(
    diffusion: Diffusion, denoise: Denoiser, x0: Tensor, steps: int, refinements: int = 0
) -> Iterator[State]:
    """DDIM run backwards (paper, section 3): from a clean sample to the x_T that leads to it.

    Each step needs the network's output at the noisier sample, which is not known yet. The first
    guess uses the current sample instead. Each refinement repeats the step with the sample that
    the previous guess reached. Nothing is clipped, because clipping cannot be undone.
    """
    timesteps = diffusion.timesteps(steps).flip(0)
    x, here = x0, 1.0
    for t in timesteps.tolist():
        t_batch = torch.full((len(x),), t, device=x.device)
        there = diffusion.schedule.alpha_bar[t].item()
        x_next, estimate = x, x
        for _ in range(1 + refinements):
            prediction = denoise(x_next, t_batch)[:, : x.shape[1]]
            estimate = diffusion.to_x0(prediction, x_next, t_batch)
            eps = diffusion.to_eps(estimate, x_next, t_batch)
            clean = (x - (1 - here) ** 0.5 * eps) / here**0.5
            x_next = there**0.5 * clean + (1 - there) ** 0.5 * eps
        yield State(t, x, estimate, x_next)
        x, here = x_next, there


def decoder_noise(seeds: list[int]) -> Noise:
    """The decoder's stream of random numbers of each seed, the same as in `generate`."""
    return stage_noise(seeds, 1)


def captionless(
    decoder: Decoder, z_i: Tensor, guidance: float, guided_above: float = 0.0
) -> Denoiser:
    """The decoder with z_i (B, E) and the empty caption bound.

    Half of the captions in its training were empty (paper, section 2.1).
    """
    tokens = torch.tensor([[START, END]], device=z_i.device).expand(len(z_i), -1)
    return decoder.denoiser(z_i, tokens, guidance, guided_above)


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture: (B, 3, S, S) twice, in [-1, 1] → (B,)."""
    error = ((images - others) / 2).square().flatten(1).mean(1)  # for pixels in [0, 1]
    return -10 * error.clamp(min=1e-12).log10()


def error_against_steps(
    clip: CLIP, decoder: Decoder, images: Tensor, steps: list[int], refinements: int = 0
) -> dict[int, Tensor]:
    """The accuracy of reconstructions, for several numbers of steps: {steps: PSNR in dB (B,)}."""
    errors = {}
    for n in steps:
        walk = Walk(n, refinements=refinements)
        errors[n] = psnr(decode(decoder, invert(clip, decoder, images, walk), walk), images)
    return errors
