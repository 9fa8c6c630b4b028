"""The head that helps the decoder's training: what it is compared with, what it teaches, and that
nothing of it is kept."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.decoder import Decoder, DecoderConfig, decoder_loss
from minidalle2.training.alignment import WEIGHT, AlignedDecoder, aligned_draws, aligned_loss
from minidalle2.training.loop import fit
from minidalle2.training.recipe import Recipe


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return CLIP(CLIPConfig(width=32, heads=2, image_layers=1, text_layers=1, embedding=16))


@pytest.fixture
def model():
    torch.manual_seed(1)
    config = DecoderConfig(
        clip_embedding=16,
        widths=(8, 8, 16),
        embedding=16,
        text_width=32,
        text_layers=1,
        text_heads=2,
    )
    return AlignedDecoder(Decoder(config), clip_width=32)


@pytest.fixture
def batch(clip):
    images = torch.rand(4, 3, 32, 32, generator=seeded()) * 2 - 1
    tokens = torch.randint(5, 200, (4, 6), generator=seeded(1))
    with torch.no_grad():
        z_i, patches = clip.encode_patches(images)
    return images, z_i, tokens, patches


def test_patches_come_with_the_very_embedding(clip, batch):
    images, z_i, _, patches = batch
    assert torch.equal(z_i, clip.encode_image(images))
    assert patches.shape == (4, 64, 32)
    moved = images.clone()
    moved[:, :, :4, :4] += 1  # the first patch
    change = (clip.encode_patches(moved)[1] - patches).norm(dim=-1)
    assert (change[:, 0] > 3 * change[:, 1:].amax(1)).all()  # it is the first that changes most


def test_the_loss_is_the_decoders_plus_what_the_head_gets_wrong(model, batch):
    patches = batch[3]
    loss, answers = model(batch[:3], aligned_draws(model, 4, seeded(2)))
    assert loss.item() == decoder_loss(model.decoder, batch[:3], seeded(2)).item()
    assert answers.shape == patches.shape
    wrong = 1 - F.cosine_similarity(answers, patches, dim=-1).mean()
    assert aligned_loss(model, batch, seeded(2)).item() == pytest.approx(
        (loss + WEIGHT * wrong).item(), rel=1e-6
    )


def test_perfect_answers_cost_nothing_and_opposite_ones_twice_the_weight(model, batch):
    loss, answers = model(batch[:3], aligned_draws(model, 4, seeded(2)))
    for sign, cost in ((1, 0), (-1, 2 * WEIGHT)):
        aligned = aligned_loss(model, (*batch[:3], sign * answers.detach()), seeded(2))
        assert aligned.item() - loss.item() == pytest.approx(cost, abs=1e-5)


def test_the_head_teaches_the_way_down_to_its_level_and_not_what_comes_after(model, batch):
    _, answers = model(batch[:3], aligned_draws(model, 4, seeded(2)))
    answers.sum().backward()
    unet = model.decoder.unet
    assert unet.down[0][0].block.conv2.weight.grad.abs().sum() > 0
    assert unet.up[1][0].block.conv2.weight.grad.abs().sum() > 0
    assert unet.up[2][0].block.conv2.weight.grad is None  # 16 px, above the head
    assert not unet.up[1][-1]._forward_hooks  # the hook is gone again


def test_only_the_decoder_is_kept(model, batch, tmp_path):
    recipe = Recipe(steps=2, batch_size=4, warmup_steps=1)
    steps = fit(
        model, lambda n, g: batch, aligned_loss, recipe, tmp_path, "decoder", lambda m: m.decoder
    )
    for step in steps:
        assert isinstance(step.average, Decoder) and math.isfinite(step.loss)
    from minidalle2.storage.checkpoints import load_model

    kept = load_model(tmp_path, "decoder", DecoderConfig, Decoder)
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, step.average.state_dict()[name])
