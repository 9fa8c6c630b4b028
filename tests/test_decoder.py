"""The decoder: two routes of z_i, one drop for both, and its losses at the start."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minidalle2.decoder import (
    CHANNELS,
    Decoder,
    coordinates,
    decoder_draws,
    decoder_loss,
    decoder_loss_at,
    noisy_timesteps,
    timestep_probability,
)
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, ddpm, last
from minidalle2.diffusion.variance import split_variance, variance_loss
from minidalle2.tokenizer import PAD

TEXTS = ["a red circle", "a large green star above a red square", "a"]
E = 12


@pytest.fixture
def inputs(tokenizer) -> dict[str, torch.Tensor]:
    return {
        "x_t": torch.randn(3, 3, 32, 32),
        "t": torch.tensor([10, 500, 999]),
        "z_i": F.normalize(torch.randn(3, E), dim=1),
        "tokens": tokenizer(TEXTS),
        "drop_image": torch.zeros(3, dtype=torch.bool),
        "drop_caption": torch.zeros(3, dtype=torch.bool),
    }


def answer(decoder: Decoder):
    """The decoder as one function of all its conditions, as training calls it."""

    def call(x_t, t, z_i, tokens, drop_image, drop_caption):
        image = decoder.image_condition(z_i, drop_image)
        return decoder(x_t, t, image, *decoder.encode_text(tokens, drop_caption))

    return call


def test_shapes(decoder, inputs):
    """(B, 3, 32, 32), … → (B, 6, 32, 32); context (B, T, D), mask (B, T); z_i (B, E)."""
    assert answer(decoder)(**inputs).shape == (3, 6, 32, 32)
    context, mask = decoder.encode_text(inputs["tokens"], inputs["drop_caption"])
    assert context.shape == (*inputs["tokens"].shape, decoder.config.text_width)
    assert torch.equal(mask, inputs["tokens"] != PAD)
    assert decoder.image_condition(inputs["z_i"], inputs["drop_image"]).shape == (3, E)


# What it sees


@pytest.mark.parametrize("name", ["x_t", "t", "z_i", "tokens", "drop_image", "drop_caption"])
def test_every_input_matters_for_its_own_row(decoder, inputs, name, only_row_changes):
    """e-20: conditioning sensitivity, row by row; z_i's four tokens are its own row's."""
    value = {
        "t": 20,
        "drop_image": True,
        "drop_caption": True,
        "tokens": inputs["tokens"].roll(1, 1)[1],
    }
    value = value.get(name, torch.randn(inputs[name][1].shape))
    only_row_changes(answer(decoder), inputs, name, value)


@pytest.mark.parametrize("closed", ["image_to_embedding", "image_to_tokens"])
def test_z_i_has_two_routes(decoder, inputs, closed, only_row_changes):
    """Section 2.1: added to the timestep embedding, and as four extra tokens of context."""
    getattr(decoder, closed).weight.zero_()
    only_row_changes(answer(decoder), inputs, "z_i", torch.randn(E))


def test_four_image_tokens_before_the_text(decoder, inputs, monkeypatch):
    seen = []
    monkeypatch.setattr(decoder.unet, "forward", lambda *args: seen.append(args) or args[0])
    answer(decoder)(**inputs)
    _, _, context, mask = seen[0]
    text, text_mask = decoder.encode_text(inputs["tokens"], inputs["drop_caption"])
    torch.testing.assert_close(context[:, 4:], text)
    assert torch.equal(mask[:, 4:], text_mask) and mask[:, :4].all()
    scaled = inputs["z_i"] * E**0.5
    torch.testing.assert_close(context[:, :4], decoder.image_to_tokens(scaled).view(3, 4, -1))


def test_z_i_laid_out_beside_the_noisy_picture(decoder, inputs, monkeypatch):
    """The third way in, where a config asks for it: channels of numbers that differ from place to
    place, made of the z_i that guidance drops; and no weights for it where none are asked for."""
    assert decoder.image_to_picture is None
    laid_out = Decoder(replace(decoder.config, laid_out=2)).eval()
    seen = []
    monkeypatch.setattr(laid_out.unet, "forward", lambda *args: seen.append(args) or args[0])
    inputs["drop_image"][1] = True
    answer(laid_out)(**inputs)
    picture = seen[0][0][:, CHANNELS + 2 :]
    assert picture.shape == (3, 2, 32, 32) and picture[0].std(dim=(1, 2)).min() > 0
    torch.testing.assert_close(seen[0][0][:, :CHANNELS], inputs["x_t"])
    condition = laid_out.image_condition(inputs["z_i"], inputs["drop_image"])
    assert torch.equal(condition[1], laid_out.null_image)
    torch.testing.assert_close(picture, laid_out.image_to_picture(condition))


def test_a_laid_out_z_i_is_enough(decoder, inputs, only_row_changes):
    """With the paper's two ways closed the answer still depends on z_i."""
    laid_out = Decoder(replace(decoder.config, laid_out=2)).eval().requires_grad_(False)
    for closed in (laid_out.image_to_embedding, laid_out.image_to_tokens):
        closed.weight.zero_()
    laid_out.unet.conv_out.weight.normal_()
    only_row_changes(answer(laid_out), inputs, "z_i", torch.randn(E))


def test_coordinates():
    """x grows to the right, y downwards, both from -1 to 1, the same for every picture."""
    x, y = coordinates(torch.zeros(2, 3, 5, 5)).unbind(1)
    assert x.shape == (2, 5, 5)
    assert x[1, 3].tolist() == y[0, :, 2].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_the_unet_sees_where_it_is(decoder, inputs, monkeypatch):
    seen = []
    monkeypatch.setattr(decoder.unet, "forward", lambda *args: seen.append(args[0]) or args[0])
    answer(decoder)(**inputs)
    assert torch.equal(seen[0][:, :CHANNELS], inputs["x_t"])
    assert torch.equal(seen[0][:, CHANNELS:], coordinates(inputs["x_t"]))


def test_dropping_z_i_closes_both_routes(decoder, inputs):
    """e-19: one mask for both; with a route left open the answer would still follow z_i."""
    inputs["drop_image"][1] = True
    changed = {**inputs, "z_i": torch.randn(3, E)}
    before, after = answer(decoder)(**inputs), answer(decoder)(**changed)
    torch.testing.assert_close(before[1], after[1])
    assert (before - after).abs().amax((1, 2, 3))[[0, 2]].min() > 1e-4


def test_dropping_the_caption(decoder, inputs, only_row_changes):
    """e-19: it reads as the empty caption, the same in training and sampling; z_i stays."""
    inputs["drop_caption"][:] = True
    changed = {**inputs, "tokens": inputs["tokens"].roll(1, 0)}
    expected = answer(decoder)(**inputs)
    torch.testing.assert_close(answer(decoder)(**changed), expected, atol=1e-5, rtol=0)
    only_row_changes(answer(decoder), inputs, "z_i", torch.randn(E))


def test_empty_caption_is_the_dropped_one(decoder, inputs, tokenizer):
    """e-19"""
    tokens = tokenizer(["", "", ""])
    empty = answer(decoder)(**{**inputs, "tokens": tokens})
    dropped = answer(decoder)(**{**inputs, "drop_caption": torch.ones(3).bool()})
    torch.testing.assert_close(empty, dropped, atol=1e-5, rtol=0)


def test_padding_never_matters(decoder, inputs, tokenizer):
    """e-23: the same prompt in a batch with a longer one."""
    together = answer(decoder)(**inputs)[2:]
    alone = {name: value[2:] for name, value in inputs.items()} | {"tokens": tokenizer(["a"])}
    torch.testing.assert_close(answer(decoder)(**alone), together, atol=1e-5, rtol=1e-4)


def test_z_i_is_scaled_to_unit_variance(decoder):
    """e-9: and a dropped row is the learned null."""
    z_i = F.normalize(torch.randn(1000, E), dim=1)
    drop = torch.arange(1000) == 7
    condition = decoder.image_condition(z_i, drop)
    assert condition[~drop].square().mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(condition[7], decoder.null_image)


# Guidance


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guidance_one_and_zero(decoder, inputs, scale):
    """e-18: 1 is conditional, and 0 is fully unconditional, without z_i and caption. Other scales
    guide all channels of the prediction and no channel of the variance."""
    conditional, unconditional = (
        answer(decoder)(
            **{**inputs, **dict.fromkeys(("drop_image", "drop_caption"), torch.full((3,), drop))}
        )
        for drop in (False, True)
    )
    expected = unconditional + scale * (conditional - unconditional)
    if scale > 0:
        expected[:, CHANNELS:] = conditional[:, CHANNELS:]
    got = decoder.denoiser(inputs["z_i"], inputs["tokens"], scale)(inputs["x_t"], inputs["t"])
    torch.testing.assert_close(got, expected)


def test_variance_is_not_guided(decoder, inputs):
    """e-17: the last three channels are the conditional ones at any scale but 0."""
    variances, predictions = [], []
    for scale in (0.5, 1.0, 4.0):
        out = decoder.denoiser(inputs["z_i"], inputs["tokens"], scale)(inputs["x_t"], inputs["t"])
        predictions.append(out[:, :CHANNELS])
        variances.append(out[:, CHANNELS:])
    assert torch.equal(variances[0], variances[1]) and torch.equal(variances[2], variances[1])
    assert (predictions[2] - predictions[1]).abs().max() > 1e-3


def test_guidance_ends_below_a_share_of_the_timesteps(decoder, inputs):
    """Below guided_above · T, any scale above 1 is scale 1. The share is one of T."""

    def differs(share: float, t: int) -> bool:
        state = inputs["x_t"], torch.full((3,), t)
        one, four = (
            decoder.denoiser(inputs["z_i"], inputs["tokens"], scale, share)(*state)
            for scale in (1.0, 4.0)
        )
        return not torch.equal(one, four)

    assert [differs(0.5, t) for t in (999, 500, 499, 0)] == [True, True, False, False]
    assert [differs(0.25, t) for t in (250, 249)] == [True, False]
    assert all(differs(0.0, t) for t in (999, 0))


def test_unconditional_branch_sees_x_t(decoder, inputs, only_row_changes):
    """e-8"""
    denoise = decoder.denoiser(inputs["z_i"], inputs["tokens"], 0.0)
    only_row_changes(
        denoise, {"x_t": inputs["x_t"], "t": inputs["t"]}, "x_t", torch.randn(3, 32, 32)
    )


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_sampling_makes_pictures(decoder, inputs, sampler):
    """DDIM ignores the learned variance, DDPM uses it; pixels stay in [-1, 1]."""
    denoise = decoder.denoiser(inputs["z_i"], inputs["tokens"], 2.0)
    states = (
        ddim(decoder.diffusion, denoise, inputs["x_t"], 3, clip_to_image)
        if sampler == "ddim"
        else ddpm(decoder.diffusion, denoise, inputs["x_t"], 3, Noise([0, 1, 2]), clip_to_image)
    )
    picture = last(states)
    assert picture.shape == (3, 3, 32, 32) and picture.abs().max() <= 1


# Loss


def with_pictures_of_4_px(decoder: Decoder) -> Decoder:
    """Its loss draws noise of that size. Its forward is replaced, because the U-Net needs more."""
    decoder.config = replace(decoder.config, image_size=4)
    return decoder


def black_and_white(n: int, size: int = 32) -> torch.Tensor:
    """Pictures of unit second moment."""
    return torch.randint(2, (n, 3, size, size)) * 2.0 - 1


def test_first_loss(configs, inputs, monkeypatch):
    """e-46: the fresh decoder answers 0, so its squared error is x0², 1 for ±1 pixels, and the
    loss the mean weight of the timesteps drawn."""
    monkeypatch.setattr("minidalle2.decoder.variance_loss", lambda *_: torch.zeros(8))
    batch = (black_and_white(8), torch.randn(8, E), inputs["tokens"][:1].expand(8, -1))
    loss = decoder_loss(Decoder(configs.decoder), batch, torch.Generator().manual_seed(0))
    t = noisy_timesteps(8, 1000, torch.Generator().manual_seed(0))
    alpha_bar = Decoder(configs.decoder).diffusion.schedule.alpha_bar[t]
    assert loss.item() == pytest.approx((1 / (1 - alpha_bar)).clamp(max=10).mean().item(), rel=1e-3)


def test_loss_is_mse_and_bound(decoder, tokenizer, monkeypatch):
    """e-6: their sum; the bound gets the images, the state and the fractions it needs."""
    seen = []
    monkeypatch.setattr(
        decoder,
        "forward",
        lambda x_t, t, *_: seen.append((x_t, t)) or 0.3 * torch.cat((x_t, x_t), 1),
    )
    with_pictures_of_4_px(decoder)
    images = black_and_white(5, 4)
    batch = (images, torch.randn(5, E), tokenizer(["a"] * 5))
    loss = decoder_loss(decoder, batch, torch.Generator().manual_seed(0))
    (x_t, t), diffusion = seen[0], decoder.diffusion
    eps = diffusion.to_eps(images, x_t, t)
    prediction, fraction = split_variance(0.3 * torch.cat((x_t, x_t), 1), CHANNELS)
    squared = (prediction - diffusion.target_of(images, t, eps)) ** 2
    mse = (diffusion.x0_weight(t, squared) * squared).mean()
    probability = timestep_probability(t, 1000)
    bound = variance_loss(diffusion, prediction, fraction, images, x_t, t, probability)
    torch.testing.assert_close(loss, mse + bound.mean(), rtol=1e-3, atol=1e-4)


def test_right_answers_cost_nothing(decoder, tokenizer, monkeypatch):
    """The true x0, and -1 for the small variance: what is left is the bits of t = 0."""
    with_pictures_of_4_px(decoder)
    images, diffusion = black_and_white(16, 4), decoder.diffusion

    def forward(x_t, t, *_):
        x0 = diffusion.target_of(images, t, diffusion.to_eps(images, x_t, t))
        return torch.cat((x0, torch.full_like(x0, -1.0)), dim=1)

    monkeypatch.setattr(decoder, "forward", forward)
    batch = (images, torch.randn(16, E), tokenizer(["a"] * 16))
    loss = decoder_loss(decoder, batch, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(0, abs=1e-3)


def test_drops_are_independent(decoder, tokenizer, monkeypatch):
    """e-19, e-44: z_i 10 %, caption 50 %, each its own draw, as is t; reproducible by seed."""
    with_pictures_of_4_px(decoder)
    n, images_dropped, captions_dropped, times = 4000, [], [], []
    image_condition, encode_text = decoder.image_condition, decoder.encode_text
    monkeypatch.setattr(
        decoder,
        "image_condition",
        lambda z, drop: images_dropped.append(drop) or image_condition(z, drop),
    )
    monkeypatch.setattr(
        decoder,
        "encode_text",
        lambda x, drop: captions_dropped.append(drop) or encode_text(x[:1], drop[:1]),
    )
    monkeypatch.setattr(
        decoder, "forward", lambda x_t, t, *_: times.append(t) or torch.zeros(n, 6, 4, 4)
    )
    batch = (black_and_white(n, 4), torch.zeros(n, E), tokenizer(["a"]).expand(n, -1))
    a, b = (decoder_loss(decoder, batch, torch.Generator().manual_seed(0)) for _ in range(2))
    image, caption = images_dropped[0].float(), captions_dropped[0].float()
    assert a == b
    assert image.mean().item() == pytest.approx(0.1, abs=0.015)
    assert caption.mean().item() == pytest.approx(0.5, abs=0.025)
    assert (image * caption).mean().item() == pytest.approx(0.05, abs=0.01)
    assert times[0].min() >= 0 and times[0].max() == 999
    mean = 0.9 * 1000 * 2 / 3 + 0.1 * 1000 / 2
    assert times[0].float().mean().item() == pytest.approx(mean, abs=15)


def test_loss_is_the_loss_of_its_draws(decoder, inputs):
    """The random numbers are drawn for the whole batch, and their rows belong to its rows."""
    batch = (black_and_white(3), inputs["z_i"], inputs["tokens"])
    draws = decoder_draws(decoder, 3, torch.Generator().manual_seed(0))
    assert [len(draw) for draw in draws] == [3] * 4 and draws[1].shape == (3, 3, 32, 32)
    loss = decoder_loss(decoder, batch, torch.Generator().manual_seed(0))
    assert torch.equal(decoder_loss_at(decoder, batch, draws), loss)
    rows = [
        decoder_loss_at(
            decoder, *(tuple(part[i : i + 1] for part in parts) for parts in (batch, draws))
        )
        for i in range(3)
    ]
    torch.testing.assert_close(torch.stack(rows).mean(), loss, rtol=1e-4, atol=1e-5)


def test_later_timesteps_come_more_often():
    """Of nine in ten timesteps, one twice as late comes twice as often; the tenth is uniform."""
    t = noisy_timesteps(400_000, 20, torch.Generator().manual_seed(0))
    assert t.min() == 0 and t.max() == 19
    often = t.bincount() / len(t)
    expected = 0.9 * (2 * torch.arange(20) + 1) / 400 + 0.1 / 20
    torch.testing.assert_close(often, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("timesteps", [20, 1000])
def test_probability_of_a_timestep(timesteps):
    """It is that of `noisy_timesteps`, so all add up to 1."""
    t = torch.arange(timesteps)
    probability = timestep_probability(t, timesteps)
    expected = 0.9 * (2 * t + 1) / timesteps**2 + 0.1 / timesteps
    torch.testing.assert_close(probability, expected)
    assert probability.sum().item() == pytest.approx(1, abs=1e-5)


def test_inputs_are_not_mutated(decoder, inputs):
    """e-10"""
    batch = (black_and_white(3), inputs["z_i"], inputs["tokens"])
    copies = [part.clone() for part in batch]
    decoder_loss(decoder, batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(batch, copies, strict=True))


def test_text_encoder_and_null_are_trained(configs, inputs):
    """Section 2.1: the text encoder learns with the decoder; so do both routes and the null."""
    decoder = Decoder(configs.decoder)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    inputs["drop_image"][0] = inputs["drop_caption"][1] = True
    answer(decoder)(**inputs).square().mean().backward()
    idle = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_training_mode_changes_nothing(decoder, inputs):
    """e-25"""
    before = answer(decoder.train())(**inputs)
    assert torch.equal(before, answer(decoder.eval())(**inputs))
