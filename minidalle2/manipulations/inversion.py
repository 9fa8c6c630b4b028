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
from minidalle2.storage.input_pictures import Pictures, as_pictures
from minidalle2.storage.inputs import Seeds, as_embeddings, as_floats, as_seeds, device_of
from minidalle2.tokenizer import END, START
from minidalle2.unclip import stage_noise


@dataclass
class Walk:
    """How the decoder is sampled, both in the inversion and in the decoding."""

    steps: int = 50
    guidance: float = 1.0  # above 1, z_i is drawn more clearly, but the inversion is less exact
    refinements: int = 0  # how often each step of the inversion is repeated with a better guess
    guided_above: float = 0.0  # share of T below which there is no guidance


@dataclass(eq=False)
class Latents:
    """The latents of B pictures. Numbers of any kind become tensors (storage/inputs.py)."""

    z_i: Tensor  # (B, E), unit length
    x_T: Tensor  # (B, 3, 32, 32)

    def __post_init__(self):
        self.z_i, self.x_T = as_floats(self.z_i, "z_i"), as_floats(self.x_T, "x_T")

    def __len__(self) -> int:
        return len(self.z_i)

    def __repr__(self) -> str:
        return f"Latents(z_i {tuple(self.z_i.shape)}, x_T {tuple(self.x_T.shape)})"

    def __getitem__(self, index: slice | Tensor | list[int]) -> "Latents":
        """The latents of some of the pictures. The index must keep the batch dimension."""
        return Latents(self.z_i[index], self.x_T[index])

    @classmethod
    def joined(cls, parts: "list[Latents]") -> "Latents":
        """The latents of all parts, one after another."""
        return cls(torch.cat([p.z_i for p in parts]), torch.cat([p.x_T for p in parts]))


@torch.no_grad()
def invert(clip: CLIP, decoder: Decoder, images: Pictures, walk: Walk) -> Latents:
    """Pictures (B, 3, 32, 32) in [-1, 1] → their latents, on the device of the networks.

    Pictures may have another form, too (storage/input_pictures.py). Raises ValueError for pictures
    of another size.
    """
    images = as_pictures(images, "images", side_of(decoder), device_of(decoder))
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
    estimates of x0 would not be those of the inversion. Raises ValueError for latents that do not
    fit.
    """
    latents = as_latents(decoder, latents)
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


def decoder_noise(seeds: Seeds) -> Noise:
    """The decoder's stream of random numbers of each seed, the same as in `generate`.

    Raises ValueError for a seed that is not a whole number.
    """
    return stage_noise(as_seeds(seeds), 1)


def captionless(
    decoder: Decoder, z_i: Tensor, guidance: float, guided_above: float = 0.0
) -> Denoiser:
    """The decoder with z_i (B, E) and the empty caption bound.

    Half of the captions in its training were empty (paper, section 2.1).
    """
    tokens = torch.tensor([[START, END]], device=z_i.device).expand(len(z_i), -1)
    return decoder.denoiser(z_i, tokens, guidance, guided_above)


def as_latents(decoder: Decoder, latents: Latents) -> Latents:
    """The latents on the device of the decoder. Raises ValueError if they do not fit it."""
    config, device = getattr(decoder, "config", None), device_of(decoder)
    z_i = as_embeddings(latents.z_i, "z_i", getattr(config, "clip_embedding", None), device)
    x_T = as_floats(latents.x_T, "x_T", device).float()
    x_T = x_T[None] if x_T.ndim == 3 else x_T
    if z_i.ndim != 2 or x_T.ndim != 4 or len(x_T) not in (1, len(z_i)):
        raise ValueError(
            f"the latents have z_i {tuple(z_i.shape)} and x_T {tuple(x_T.shape)}; (B, E) and "
            "(B, 3, S, S) would work"
        )
    return Latents(z_i, x_T if len(x_T) == len(z_i) else x_T.expand(len(z_i), -1, -1, -1))


def side_of(decoder: Decoder) -> int | None:
    """The side of the decoder's pictures in pixels; None for a decoder without a config."""
    return getattr(getattr(decoder, "config", None), "image_size", None)


def psnr(images: Pictures, others: Pictures) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture: (B, 3, S, S) twice, in [-1, 1] → (B,).

    Pictures may have another form, too (storage/input_pictures.py).
    """
    images = as_pictures(images, "images")
    others = as_pictures(others, "others", images.shape[-1], images.device)
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
