"""Faults of earlier versions, each with a test that fails on them.

The numbers are those of the changelog's section "Fixed".
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.decoder import (
    LOWEST,
    Decoder,
    DecoderConfig,
    decoder_draws,
    noisy_timesteps,
    timestep_probability,
)
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, ddpm, last
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.diffusion.variance import VLB_WEIGHT, variance_loss
from minidalle2.evaluation.drawn import draw_prompts
from minidalle2.manipulations.inpainting import Resampling, inpaint
from minidalle2.prior import PriorConfig
from minidalle2.priors.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from minidalle2.priors.regression_prior import RegressionPriorConfig
from minidalle2.storage.checkpoints import load_model, save_model
from minidalle2.storage.eight_bits import pack
from minidalle2.training.contrastive.filip import Filip, filip_loss
from minidalle2.training.contrastive.infoloob import TwoDirections, infoloob_loss
from minidalle2.training.contrastive.masked_language import MaskedLanguage, masked_language_loss
from minidalle2.training.contrastive.self_supervision import (
    SimCLR,
    SimSiam,
    simclr_loss,
    simsiam_loss,
)
from minidalle2.upsampler import UpsamplerConfig
from minidalle2.worlds.emoji.sizes import SIZES as EMOJI
from minidalle2.worlds.shapes.sizes import SIZES as SHAPES

PROMPTS = ["a red circle", "a small blue square"]

# 1. Contrastive variants failed with the CLIPs that the package itself makes.

VARIANTS = {
    "filip": (Filip, filip_loss),
    "infoloob": (TwoDirections, infoloob_loss),
    "masked-language": (MaskedLanguage, masked_language_loss),
    "simclr": (SimCLR, simclr_loss),
    "simsiam": (SimSiam, simsiam_loss),
}
CLIPS = {
    "shapes": SHAPES.clip,
    "emoji": EMOJI.clip,
    "emoji with two towers": replace(EMOJI.clip, style_widths=EMOJI.style_widths),
}


@pytest.mark.parametrize("config", CLIPS)
@pytest.mark.parametrize("name", VARIANTS)
def test_1_every_variant_trains_every_clip(name, config, tokenizer):
    wrap, loss = VARIANTS[name]
    model = wrap(CLIP(replace(CLIPS[config], vocab_size=tokenizer.vocab_size)))
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    tokens = tokenizer([*PROMPTS, "a green star", "a sign"])
    loss(model, (images, tokens), torch.Generator().manual_seed(0)).backward()
    gradient = sum(p.grad.abs().sum() for p in model.clip.image_tower.parameters())
    assert gradient > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# 2. With guided_above, a guidance of 0 was conditional below that timestep.


@pytest.mark.parametrize("above", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [30, 499, 999])
def test_2_guidance_0_ignores_every_condition(decoder, tokenizer, above, t):
    x_t, t = torch.randn(2, 3, 32, 32), torch.full((2,), t)
    answers = []
    for seed, prompts in enumerate((PROMPTS, PROMPTS[::-1])):
        z_i = F.normalize(torch.randn(2, 12, generator=torch.Generator().manual_seed(seed)), dim=1)
        tokens = tokenizer([prompts[0] + " and more", prompts[1] + " and more"])
        tokens = F.pad(tokens, (0, 30 - tokens.shape[1]))
        answers.append(decoder.denoiser(z_i, tokens, 0.0, above)(x_t, t))
    torch.testing.assert_close(*answers, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_2_guided_above_limits_strong_guidance_only(decoder, tokenizer, scale):
    z_i, tokens = F.normalize(torch.randn(2, 12), dim=1), tokenizer(PROMPTS)
    x_t, t = torch.randn(2, 3, 32, 32), torch.full((2,), 100)
    conditional = decoder.denoiser(z_i, tokens, 1.0)(x_t, t)
    everywhere = decoder.denoiser(z_i, tokens, scale)(x_t, t)
    limited = decoder.denoiser(z_i, tokens, scale, guided_above=0.5)(x_t, t)
    assert not torch.allclose(everywhere, conditional)
    assert torch.equal(limited, conditional if scale > 1 else everywhere)


# 3. Stages do not compose: test_stages.py.

# 4. Inpainting and DDPM visited timesteps that training hardly sees.


class Listening:
    """A denoiser that answers x0 = 0 and remembers the timesteps it was asked for."""

    def __init__(self):
        self.heard = []

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.heard += t.tolist()
        return torch.zeros_like(x_t)


def walk(sampler: str, diffusion: Diffusion, denoise: Listening) -> None:
    x_T, noise = torch.randn(1, 3, 8, 8), Noise([0])
    if sampler == "ddim":
        last(ddim(diffusion, denoise, x_T, 6))
    elif sampler == "ddpm":
        last(ddpm(diffusion, denoise, x_T, 6, noise, clip_to_image))
    else:
        known = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        inpaint(diffusion, denoise, x_T.clamp(-1, 1), known, Resampling(6, 2, 2), noise)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "inpaint"])
def test_4_every_sampler_stops_at_the_lowest_timestep(decoder, sampler):
    denoise = Listening()
    walk(sampler, decoder.diffusion, denoise)
    assert min(denoise.heard) == LOWEST * 1000 == 20
    assert max(denoise.heard) == 999


# 5. The release quantised measured buffers as if they were weights.


def test_5_a_release_keeps_buffers_exactly(autoregressive_prior, tmp_path):
    save_model(tmp_path, "autoregressive_prior", autoregressive_prior, pack)
    classes = AutoregressivePriorConfig, AutoregressivePrior
    released = load_model(tmp_path, "autoregressive_prior", *classes)
    buffers = dict(autoregressive_prior.named_buffers())
    assert {"edges", "similarity_edges", "mean", "components"} <= set(buffers)
    for name, buffer in released.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    weights = dict(autoregressive_prior.named_parameters())
    assert any(not torch.equal(p, weights[name]) for name, p in released.named_parameters())


# 6. The variational bound was biased, because its timesteps are not drawn evenly.


def test_6_probabilities_are_those_of_the_drawn_timesteps():
    drawn = noisy_timesteps(400_000, 50, torch.Generator().manual_seed(0))
    share = drawn.bincount(minlength=50) / len(drawn)
    probability = timestep_probability(torch.arange(50), 50)
    assert probability.sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(share, probability, rtol=0.1, atol=3e-4)
    assert drawn.min() == 0  # the first term of the bound is trained, too


def test_6_the_bound_is_unbiased():
    """The mean over drawn timesteps equals the sum of all terms."""
    timesteps = 40
    diffusion = Diffusion(Schedule(cosine_betas(timesteps)), "x0")
    generator = torch.Generator().manual_seed(1)
    x0 = torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1
    eps = torch.randn(x0.shape, generator=generator)

    def terms(t: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
        many = x0.expand(len(t), -1, -1, -1)
        x_t = diffusion.add_noise(many, t, eps)
        guess, fraction = 0.9 * many, torch.full_like(many, 0.2)
        return variance_loss(diffusion, guess, fraction, many, x_t, t, probability)

    every = torch.arange(timesteps)
    bound = terms(every, torch.ones(timesteps)).sum().item()
    drawn = noisy_timesteps(200_000, timesteps, generator)
    estimate = terms(drawn, timestep_probability(drawn, timesteps)).mean().item()
    assert estimate == pytest.approx(bound, rel=0.02)
    uniform = torch.full((timesteps,), 1 / timesteps)
    assert terms(every, uniform).mean().item() == pytest.approx(bound, rel=1e-4)
    assert bound > VLB_WEIGHT  # so the comparison is not of zeros


def test_6_every_term_that_samplers_visit_is_trained(decoder):
    """Small timesteps are drawn. The terms below `lowest` are no part of the bound."""
    t, *_ = decoder_draws(decoder, 20_000, torch.Generator().manual_seed(0))
    assert 0 < ((t >= 20) & (t < 30)).float().mean() < 0.01
    t = torch.tensor([0, 19, 20, 30])
    x0, x_t = torch.zeros(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    ones = torch.ones(4)
    loss = variance_loss(decoder.diffusion, x0 + 0.1, x0, x0, x_t, t, ones)
    assert (loss[:2] == 0).all() and (loss[2:] > 0).all()


# 7. Configs accepted values that cannot work.


@pytest.mark.parametrize(
    ("config", "values", "fault"),
    [
        (CLIPConfig, {"image_layers": 0}, "exactly one of image_layers"),
        (CLIPConfig, {"layout_widths": (48, 96, 192)}, "exactly one of image_layers"),
        (CLIPConfig, {"patch_size": 5}, "do not divide"),
        (CLIPConfig, {"style_widths": (8, 8, 8, 8), "image_size": 64}, "read 32 px"),
        (
            CLIPConfig,
            {"image_layers": 0, "layout_widths": (8, 8, 8), "image_size": 64},
            "read 32 px",
        ),
        (CLIPConfig, {"vocab_size": 0}, "vocab_size is 0"),
        (PriorConfig, {"timesteps": 1}, "2 timesteps"),
        (PriorConfig, {"heads": 0}, "heads is 0"),
        (DecoderConfig, {"timesteps": 0}, "2 timesteps"),
        (DecoderConfig, {"widths": (64, 96)}, "one entry for each level"),
        (DecoderConfig, {"widths": (64, 100, 128)}, "multiples of 8"),
        (DecoderConfig, {"widths": (64, 96, 104)}, "attention heads"),
        (DecoderConfig, {"image_size": 30}, "multiple of 8 px"),
        (DecoderConfig, {"laid_out": -1}, "laid_out"),
        (DecoderConfig, {"blocks": (1, 0, 1)}, "needs a block"),
        (UpsamplerConfig, {"schedule": "linear", "timesteps": 20}, "more than 20 timesteps"),
        (UpsamplerConfig, {"schedule": "quadratic"}, "unknown schedule"),
        (UpsamplerConfig, {"size": 66}, "multiple of 4 px"),
        (AutoregressivePriorConfig, {"components": 129}, "1 to 128 components"),
        (AutoregressivePriorConfig, {"buckets": 1}, "2 buckets"),
        (RegressionPriorConfig, {"width": -1}, "negative"),
    ],
)
def test_7_a_config_that_cannot_work_is_rejected(config, values, fault):
    with pytest.raises(ValueError, match=fault) as error:
        config(**values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("widths", [(48, 96), (48, 96, 192, 256)])
def test_7_a_layout_tower_has_three_widths(widths):
    with pytest.raises(ValueError, match="3 widths"):
        CLIP(CLIPConfig(image_layers=0, layout_widths=widths))


def test_7_a_style_tower_has_four_widths():
    with pytest.raises(ValueError, match="4 widths"):
        CLIP(CLIPConfig(style_widths=(48, 96, 192)))


@pytest.mark.parametrize("timesteps", [20, 50, 200, 1000])
def test_7_what_depends_on_the_timesteps_scales_with_them(configs, tokenizer, timesteps):
    """A decoder of any number of timesteps starts at pure noise and ends almost clean."""
    decoder = Decoder(replace(configs.decoder, timesteps=timesteps))
    visited = decoder.diffusion.timesteps(8)
    noise = decoder.diffusion.schedule.noise[visited]
    assert visited[0] == timesteps - 1 and visited[-1] == int(0.02 * timesteps)
    assert noise[0] > 0.99 and noise[-1] < 0.13
    heard = []
    decoder.forward = lambda x_t, t, *rest: (heard.append(int(t[0])), torch.zeros(1, 6, 32, 32))[1]
    denoise = decoder.denoiser(torch.ones(1, 12), tokenizer(PROMPTS[:1]), 2.0, guided_above=0.5)
    last(ddim(decoder.diffusion, denoise, torch.randn(1, 3, 32, 32), 8))
    twice = {t for t in heard if heard.count(t) == 2}
    assert twice == {int(t) for t in visited if t >= 0.5 * timesteps}


# 8. `evaluate` drew in bfloat16 where the hardware has it, `draw` in float32.


def test_8_evaluation_draws_what_generate_draws(tiny_dalle2, few_steps, monkeypatch):
    """Also where training would multiply in bfloat16."""
    monkeypatch.setattr("minidalle2.training.precision.multiplies_bfloat16", lambda device: True)
    drawn = next(draw_prompts(tiny_dalle2, PROMPTS, few_steps))
    alone = tiny_dalle2.generate(PROMPTS, sampling=few_steps)
    assert torch.equal(drawn.image128, alone.image128)
    assert torch.equal(drawn.image32, alone.image32)
