"""DDIM inversion: a picture's z_i and x_T, and the picture back from them."""

from types import SimpleNamespace

import pytest
import torch

from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise
from minidalle2.diffusion.schedule import Schedule, at, cosine_betas, linear_betas, spaced_timesteps
from minidalle2.manipulations.inversion import (
    Latents,
    Walk,
    decode,
    decoder_noise,
    error_against_steps,
    invert,
    psnr,
)
from minidalle2.tokenizer import END, START

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
LOWEST = 20  # where sampling ends, as the decoder's does
CLIP = SimpleNamespace(encode_image=lambda images: torch.eye(len(images), 4))


class Oracle:
    """Takes the place of the decoder, and records its conditions and timesteps."""

    def __init__(self, diffusion, denoise):
        self.diffusion, self.denoise = diffusion, denoise
        self.heard, self.bound = [], []

    def denoiser(self, z_i, tokens, scale, guided_above=0.0):
        self.bound.append((z_i, tokens, scale, guided_above))

        def denoise(x_t, t):
            self.heard.append(t[0].item())
            return self.denoise(x_t, t)

        return denoise


def gaussian(deviation: float, target: str = "x0") -> Oracle:
    """The perfect denoiser of pixels from N(0, deviation²): linear in x_t."""
    diffusion = Diffusion(Schedule(cosine_betas(1000)), target, LOWEST)

    def denoise(x_t, t):
        signal, noise = at(diffusion.schedule.signal, t, x_t), at(diffusion.schedule.noise, t, x_t)
        x0 = signal * deviation**2 / (signal**2 * deviation**2 + noise**2) * x_t
        return diffusion.target_of(x0, t, diffusion.to_eps(x0, x_t, t))

    return Oracle(diffusion, denoise)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_exact_where_the_noise_is_known(steps):
    """With a constant answer x_T is what the forward process makes of it, at any step count."""
    eps = torch.randn(IMAGES.shape)
    oracle = Oracle(Diffusion(Schedule(linear_betas(1000)), "eps", LOWEST), lambda x_t, t: eps)
    latents = invert(CLIP, oracle, IMAGES, Walk(steps, refinements=0))
    expected = oracle.diffusion.add_noise(IMAGES, torch.tensor([999, 999]), eps)
    torch.testing.assert_close(latents.x_T, expected, atol=1e-5, rtol=0)
    back = decode(oracle, latents, Walk(steps))
    torch.testing.assert_close(back, IMAGES, atol=1e-3, rtol=0)
    assert psnr(back, IMAGES).min() > 60


@pytest.mark.parametrize("target", ["x0", "eps", "v"])
def test_error_falls_with_steps(target):
    """e-40: exact only in the limit of many steps."""
    errors = error_against_steps(CLIP, gaussian(0.4, target), IMAGES, [10, 25, 50, 100, 400], 0)
    means = [value.mean().item() for value in errors.values()]
    assert list(errors) == [10, 25, 50, 100, 400]
    assert all(b > a + 3 for a, b in zip(means, means[1:], strict=False))
    assert means[-1] > 40


def test_the_limit_is_the_noise_that_gaussian_pixels_come_from():
    """x_T = x0 / s for pixels from N(0, s²): a linear denoiser only scales."""
    latents = invert(CLIP, gaussian(0.4), IMAGES, Walk(500, refinements=0))
    torch.testing.assert_close(latents.x_T, IMAGES / 0.4, rtol=0.03, atol=0.01)


def test_refinements_mend_a_coarse_walk():
    plain, refined = (
        error_against_steps(CLIP, gaussian(0.4), IMAGES, [10], refinements)[10].mean()
        for refinements in (0, 20)
    )
    assert refined > plain + 10


@pytest.mark.parametrize("refinements", [0, 2])
def test_up_and_down_are_the_same_timesteps(refinements):
    oracle, walk = gaussian(0.4), Walk(9, refinements=refinements)
    latents = invert(CLIP, oracle, IMAGES, walk)
    up, oracle.heard = oracle.heard, []
    decode(oracle, latents, walk)
    assert oracle.heard == spaced_timesteps(1000, 9, LOWEST).tolist()
    assert oracle.heard[0] == 999 and oracle.heard[-1] == LOWEST
    assert up == [t for t in reversed(oracle.heard) for _ in range(1 + refinements)]


def test_up_and_down_have_the_same_condition():
    """z_i of CLIP, no caption, one guidance: else the way down is another than the way up."""
    oracle, walk = gaussian(0.4), Walk(3, guidance=1.7, guided_above=0.3)
    decode(oracle, invert(CLIP, oracle, IMAGES, walk), walk)
    for z_i, tokens, scale, guided_above in oracle.bound:
        assert torch.equal(z_i, torch.eye(2, 4))
        assert tokens.tolist() == [[START, END]] * 2
        assert (scale, guided_above) == (1.7, 0.3)
    assert len(oracle.bound) == 2


def test_the_learned_variance_plays_no_part():
    plain, walk = gaussian(0.4), Walk(6)
    denoise = plain.denoise
    both = Oracle(plain.diffusion, lambda x, t: torch.cat((denoise(x, t), 1e3 * x), dim=1))
    a, b = (invert(CLIP, oracle, IMAGES, walk) for oracle in (plain, both))
    assert torch.equal(a.x_T, b.x_T)
    assert torch.equal(decode(plain, a, walk), decode(both, b, walk))


def test_only_the_finished_picture_is_clipped():
    """A picture far beyond the pixels' range is inverted as it is, and clipped at the end."""
    wide, walk = 3 * IMAGES, Walk(60, refinements=3)
    oracle = gaussian(1.5)
    latents = invert(CLIP, oracle, wide, walk)
    back = decode(oracle, latents, walk)
    assert back.abs().max() == 1
    torch.testing.assert_close(back, wide.clamp(-1, 1), atol=0.05, rtol=0)


def test_eta_0_needs_no_noise_and_hears_none():
    oracle, walk = gaussian(0.4), Walk(6)
    latents = invert(CLIP, oracle, IMAGES, walk)
    silent = decode(oracle, latents, walk)
    assert torch.equal(silent, decode(oracle, latents, walk, 0.0, Noise([7, 8])))
    assert torch.equal(silent, decode(oracle, latents, walk))


def test_a_picture_does_not_depend_on_its_batch(tiny_dalle2):
    images, walk = torch.rand(3, 3, 32, 32) * 2 - 1, Walk(4, guidance=1.5)
    together = invert(tiny_dalle2.clip, tiny_dalle2.decoder, images, walk)
    alone = invert(tiny_dalle2.clip, tiny_dalle2.decoder, images[1:2], walk)
    torch.testing.assert_close(together[1:2].z_i, alone.z_i)
    torch.testing.assert_close(together[[1]].x_T, alone.x_T, atol=1e-3, rtol=1e-3)
    assert len(together) == 3 and not together.x_T.requires_grad


def test_guidance_is_heard(tiny_dalle2):
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    a, b = (
        invert(tiny_dalle2.clip, tiny_dalle2.decoder, images, Walk(4, guidance)).x_T
        for guidance in (1.0, 3.0)
    )
    assert (a - b).abs().max() > 1e-3


def test_z_i_matters(tiny_dalle2):
    latents = Latents(torch.eye(2, 12), torch.randn(1, 3, 32, 32).expand(2, -1, -1, -1))
    a, b = decode(tiny_dalle2.decoder, latents, Walk(4))
    assert (a - b).abs().max() > 1e-3


def test_psnr():
    """In dB of a range of 1: a tenth of it off everywhere is 20."""
    images = torch.zeros(3, 3, 4, 4)
    others = torch.stack((images[0], images[0] + 0.2, images[0] + 2))
    assert psnr(images, others).tolist() == pytest.approx([120, 20, 0], abs=1e-4)


def test_noise_is_the_decoder_s_stream_of_a_seed(tiny_dalle2, few_steps, monkeypatch):
    """As `generate` draws it, so that seeds mean the same everywhere."""
    drawn = []

    def recorded(seeds):
        drawn.append(seeds)
        return Noise(seeds)

    monkeypatch.setattr("minidalle2.unclip.Noise", recorded)
    z_i = torch.eye(1, 12)
    tiny_dalle2.generate(["a"], [5], few_steps, stop_after="image32", image_embeddings=z_i)
    of_generate = next(seeds for seeds in drawn if seeds == [4 * 5 + 1])  # stream 1 of seed 5
    expected = Noise(of_generate)(few_steps.drawings, 3, 32, 32)[:, 0]
    assert torch.equal(decoder_noise([5])(3, 32, 32), expected)
