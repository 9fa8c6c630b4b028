"""CLIP: two towers, one temperature, and which pairs count as negatives."""

import math

import pytest
import torch
from torch import nn

from minidalle2.clip import CLIP, MAX_LOG_SCALE, CLIPConfig, clip_loss, info_nce
from minidalle2.tokenizer import END, Tokenizer
from minidalle2.worlds.shapes.world import Shapes

TEXTS = ["a red circle", "a small blue square", "a large green star above a red square", "a"]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32) * 2 - 1


@pytest.fixture
def tokens(tokenizer) -> torch.Tensor:
    return tokenizer(TEXTS)


def test_shapes(clip, images, tokens):
    """(B, 3, H, W) → z_i (B, E), (B, T) → z_t (B, E), both of unit length; → (B, B) logits."""
    width, embedding = clip.config.width, clip.config.embedding
    assert width != embedding  # e-26: the embedding's size is not the towers' width
    z_i, z_t = clip.encode_image(images), clip.encode_text(tokens)
    assert z_i.shape == z_t.shape == (4, embedding)
    for z in (z_i, z_t):
        torch.testing.assert_close(z.norm(dim=1), torch.ones(4))
    assert clip.text_tower.encoder(tokens).shape == (4, tokens.shape[1], width)
    assert clip(images, tokens[:3]).shape == (4, 3)


def test_logits_are_scaled_cosines(clip, images, tokens):
    """e-24: images down, texts across, of the very embeddings that `encode_…` gives out."""
    cosines = clip.encode_image(images) @ clip.encode_text(tokens).T
    torch.testing.assert_close(clip(images, tokens), clip.log_scale.exp() * cosines)


# The temperature


def test_temperature_starts_at_007():
    """e-28: ln(1/.07) = 2.659."""
    assert CLIP(CLIPConfig(image_layers=1, text_layers=1)).log_scale.item() == pytest.approx(
        2.659, abs=1e-3
    )


@pytest.mark.parametrize("log_scale", [4.0, MAX_LOG_SCALE, 5.0, 50.0])
def test_temperature_is_clamped(clip, images, tokens, log_scale):
    """e-28: the scale is never more than 100, ln 100 = 4.605."""
    assert pytest.approx(4.605, abs=1e-3) == MAX_LOG_SCALE
    clip.log_scale.requires_grad_().data.fill_(log_scale)
    clip_loss(clip, (images, tokens), torch.Generator()).backward()
    assert clip.log_scale.item() == pytest.approx(min(log_scale, MAX_LOG_SCALE))
    assert clip.log_scale.grad != 0  # at the limit, too: it can come back
    cosines = clip.encode_image(images) @ clip.encode_text(tokens).T
    torch.testing.assert_close(clip(images, tokens), min(math.exp(log_scale), 100) * cosines)


# The loss


@pytest.mark.parametrize("n", [1, 2, 64])
def test_loss_of_no_knowledge_is_log_n(n):
    assert info_nce(torch.zeros(n, n)).item() == pytest.approx(math.log(n), abs=1e-6)


def test_loss_at_random_init_is_log_batch():
    """e-46: fresh towers can't tell 64 pairs apart; a little more than log 64, because a text may
    lie nearer than another to all pictures."""
    images, captions = Shapes().captioned(64, torch.Generator().manual_seed(0))
    tokens = Tokenizer.train(captions)(captions)
    loss = clip_loss(CLIP(CLIPConfig()), (images, tokens), torch.Generator())
    assert math.log(64) < loss.item() < 1.2 * math.log(64)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_loss_is_never_negative(scale):
    """e-30: InfoNCE keeps the positive in the denominator."""
    assert all(info_nce(scale * torch.randn(8, 8)) >= 0 for _ in range(20))
    assert info_nce(scale * torch.eye(8)) >= 0


def test_loss_by_hand():
    """The mean of both directions, rows (find the text) and columns (find the image)."""
    logits = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    rows = -(math.log(math.e**2 / (math.e**2 + 1)) + math.log(0.5)) / 2
    columns = -(math.log(math.e**2 / (math.e**2 + math.e)) + math.log(math.e / (1 + math.e))) / 2
    assert info_nce(logits).item() == pytest.approx((rows + columns) / 2)
    assert info_nce(logits.T).item() == pytest.approx((rows + columns) / 2)


def test_large_logits_do_not_overflow():
    """e-27: log-softmax, never exp and then log; float32 overflows at exp 88.7."""
    logits = torch.full((4, 4), -1e4).fill_diagonal_(1e4).requires_grad_()
    info_nce(logits).backward()
    assert info_nce(logits) == 0 and logits.grad.isfinite().all()


# Equal captions


def test_equal_captions_are_no_negatives():
    """e-29: their logits do not count, and get no gradient, whatever they are."""
    logits = torch.randn(4, 4)
    same = torch.eye(4).bool()
    same[0, 2] = same[2, 0] = True
    leaf = logits.clone().requires_grad_()
    loss = info_nce(leaf, same)
    loss.backward()
    other = logits.clone()
    other[0, 2] = other[2, 0] = 50
    torch.testing.assert_close(info_nce(other, same), loss)
    assert leaf.grad[0, 2] == leaf.grad[2, 0] == 0
    assert (leaf.grad[~same] > 0).all() and (leaf.grad.diag() < 0).all()


def test_floor_of_duplicates():
    """e-29: perfect embeddings of 4 captions, each twice: plain InfoNCE stays at log 2."""
    same = torch.eye(4).bool().repeat_interleave(2, 0).repeat_interleave(2, 1)
    perfect = 100.0 * same
    assert info_nce(perfect).item() == pytest.approx(math.log(2), abs=1e-4)
    assert info_nce(perfect, same).item() == pytest.approx(0, abs=1e-4)
    assert info_nce(perfect, torch.ones(8, 8).bool()) == 0  # only positives are left


def test_loss_finds_equal_captions_in_the_tokens(clip, images, tokenizer):
    """e-29: captions are equal as token rows; pads are no reason to differ or agree."""
    tokens = tokenizer(["a red circle", "a", "a red circle", "a red circle left of a"])
    same = torch.eye(4).bool()
    same[0, 2] = same[2, 0] = True
    loss = clip_loss(clip, (images, tokens), torch.Generator())
    torch.testing.assert_close(loss, info_nce(clip(images, tokens), same))
    assert loss < info_nce(clip(images, tokens))


# What a tower sees


@pytest.mark.parametrize("text", TEXTS)
def test_padding_never_matters(clip, tokenizer, tokens, text):
    """e-23: a text has one embedding, alone or padded beside longer ones."""
    together = clip.encode_text(tokens)[TEXTS.index(text)]
    torch.testing.assert_close(together, clip.encode_text(tokenizer([text]))[0], atol=1e-5, rtol=0)


def test_text_is_read_at_its_end(clip, tokens):
    """Causal: what stands after the first end token is never seen, what stands before is."""
    end = (tokens[1] == END).nonzero().item()
    after, before = tokens.clone(), tokens.clone()
    after[1, end + 1 :] = torch.randint(0, 200, after[1, end + 1 :].shape)
    after[1, -1] = END
    before[1, 1] += 1
    expected = clip.encode_text(tokens)
    torch.testing.assert_close(clip.encode_text(after), expected)
    assert (clip.encode_text(before)[1] - expected[1]).abs().max() > 1e-3
    at_end = clip.text_tower.projection(clip.text_tower.encoder(tokens)[1, end])  # no other id
    torch.testing.assert_close(expected[1], nn.functional.normalize(at_end, dim=0))


@pytest.mark.parametrize("position", ["first", "last"])
def test_every_word_matters(clip, tokens, position):
    """z_t sees from the first to the last word."""
    changed, end = tokens.clone(), (tokens[2] == END).nonzero().item()
    changed[2, 1 if position == "first" else end - 1] -= 1
    assert (clip.encode_text(changed)[2] - clip.encode_text(tokens)[2]).abs().max() > 1e-3


def test_every_patch_matters(clip, images):
    expected = clip.encode_image(images)
    for top in range(0, 32, 8):
        for left in range(0, 32, 8):
            changed = images.clone()
            changed[:, :, top : top + 8, left : left + 8] *= -1
            assert (clip.encode_image(changed) - expected).abs().amax(1).min() > 1e-4


def test_word_order_and_place_matter(clip, images, tokenizer):
    """Positions are embedded: neither a bag of words nor a bag of patches."""
    z = clip.encode_text(tokenizer(["red circle blue square", "blue square red circle"]))
    assert (z[0] - z[1]).abs().max() > 1e-3
    moved = clip.encode_image(images.roll(8, dims=3)) - clip.encode_image(images)
    assert moved.abs().max() > 1e-3


@pytest.mark.parametrize("tower", ["image", "text"])
def test_rows_are_independent(clip, images, tokens, tower, only_row_changes):
    """e-20"""
    if tower == "image":
        only_row_changes(clip.encode_image, {"images": images}, "images", torch.rand(3, 32, 32))
    else:
        only_row_changes(clip.encode_text, {"tokens": tokens}, "tokens", tokens[2])


def test_training_mode_changes_nothing(clip, images, tokens):
    """e-25: no dropout that a stray .train() could switch on."""
    assert not any(isinstance(m, nn.Dropout) for m in clip.modules())
    expected = clip.eval().encode_image(images)
    assert torch.equal(clip.train().encode_image(images), expected)


def test_bfloat16_embeddings_keep_unit_length(clip, images, tokens):
    """e-48: normalised in float32, also under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        for z in (clip.encode_image(images), clip.encode_text(tokens)):
            assert z.dtype == torch.float32
            torch.testing.assert_close(z.norm(dim=1), torch.ones(4), atol=1e-5, rtol=0)


def test_inputs_are_not_mutated(clip, images, tokens):
    """e-10"""
    copies = images.clone(), tokens.clone()
    clip_loss(clip, (images, tokens), torch.Generator())
    assert torch.equal(images, copies[0]) and torch.equal(tokens, copies[1])
