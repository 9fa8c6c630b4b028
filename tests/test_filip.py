"""What CLIP's variants share, and FILIP: tokens that look for each other. Against loops in float64;
where a public implementation errs, the test that would have caught it names the error."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_model import NOTHING_SAME, TEXTS, trainable, unit

from minidalle2.clip import at_end, cosines, equal_captions, info_nce, matching
from minidalle2.tokenizer import PAD, START
from minidalle2.training.contrastive import filip
from minidalle2.training.contrastive.filip import (
    WEIGHT,
    Filip,
    filip_loss,
    token_likeness,
    words_of,
)


@pytest.fixture
def batch(tokenizer):
    return torch.rand(4, 3, 32, 32) * 2 - 1, tokenizer(TEXTS)


def cross_entropy_by_loops(logits, same) -> float:
    """Row k must find column k; other columns with its caption do not exist."""
    total = 0.0
    for k, row in enumerate(logits.double().tolist()):
        kept = [x for column, x in enumerate(row) if column == k or not same[k, column]]
        total += math.log(sum(map(math.exp, kept))) - row[k]
    return total / len(logits)


# What they share


def test_the_two_directions_together_are_info_nce(batch):
    same, logits = equal_captions(batch[1]), 5 * torch.randn(4, 4)
    assert same.tolist() == [[k == j or {k, j} == {0, 3} for j in range(4)] for k in range(4)]
    assert matching(logits, same).item() == pytest.approx(cross_entropy_by_loops(logits, same))
    both = (matching(logits, same) + matching(logits.T, same)) / 2
    torch.testing.assert_close(both, info_nce(logits, same))


def test_texts_are_read_where_clip_reads_them(clip, batch):
    """e-24"""
    z_t = clip.text_tower.projection(at_end(clip.text_tower.encoder(batch[1]), batch[1]))
    torch.testing.assert_close(F.normalize(z_t, dim=-1), clip.encode_text(batch[1]))


def test_cosines_stay_float32_under_autocast():
    """e-48"""
    a, b = unit(4, 8), unit(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cosines(a, b), a @ b.T) is False  # the plain product was rounded
        inside = cosines(a, b)
    assert inside.dtype == torch.float32 and torch.equal(inside, a @ b.T)


# FILIP


def likeness_by_loops(patches, words, is_word):
    """Picture to text and text to picture, each (pictures, texts)."""
    patches, words = patches.double(), words.double()
    to_text, to_picture = (torch.zeros(len(patches), len(words)).double() for _ in range(2))
    for i, patch_rows in enumerate(patches):
        for j, word_rows in enumerate(words):
            real = [w for w, counts in zip(word_rows, is_word[j], strict=True) if counts]
            best_words = [max(float(p @ w) for w in real) for p in patch_rows]
            best_patches = [max(float(p @ w) for p in patch_rows) for w in real]
            to_text[i, j] = sum(best_words) / len(best_words)
            to_picture[i, j] = sum(best_patches) / len(best_patches)
    return to_text, to_picture


@pytest.mark.parametrize("at_once", [2, 32])
def test_token_likeness(monkeypatch, at_once):
    """Whatever number of pictures is compared at once."""
    monkeypatch.setattr(filip, "PICTURES_AT_ONCE", at_once)
    patches, words, is_word = unit(3, 5, 8), unit(4, 6, 8), torch.rand(4, 6) < 0.6
    is_word[:, 1] = True
    to_text, to_picture = token_likeness(patches, words, is_word)
    expected = likeness_by_loops(patches, words, is_word)
    torch.testing.assert_close(to_text.double(), expected[0])
    torch.testing.assert_close(to_picture.T.double(), expected[1])


def test_each_direction_contrasts_along_its_own_axis(configs, batch):
    """x-clip (x_clip.py, image_to_text with use_all_token_embeds) does not transpose its second
    matrix: both losses then run over pictures, and no picture ever has to choose among texts."""
    model, (images, tokens) = Filip(trainable(configs)), batch
    same = equal_captions(tokens)
    z_i, z_t, patches, words = model(images, tokens)
    to_text, to_picture = likeness_by_loops(patches.detach(), words.detach(), words_of(tokens))
    scale = 1 / 0.07
    right = cross_entropy_by_loops(scale * to_text, same)  # a row a picture, over texts
    right = (right + cross_entropy_by_loops(scale * to_picture.T, same)) / 2
    wrong = cross_entropy_by_loops(scale * to_text.T, same)
    wrong = (wrong + cross_entropy_by_loops(scale * to_picture.T, same)) / 2
    whole = info_nce(model.clip.log_scale.exp() * z_i @ z_t.T, same).item()
    loss = filip_loss(model, batch, torch.Generator()).item()
    assert loss == pytest.approx(whole + WEIGHT * right, abs=1e-5)
    assert abs(right - wrong) > 1e-4


def test_padding_changes_nothing(configs, batch):
    """LUC's adapter forgets the mask that training had (e-24): pads may be the best word of none,
    and no text's mean may count them."""
    model, (images, tokens) = Filip(trainable(configs)), batch
    longer = F.pad(tokens, (0, 7), value=PAD)
    expected = filip_loss(model, batch, torch.Generator())
    torch.testing.assert_close(filip_loss(model, (images, longer), torch.Generator()), expected)
    patches, words, is_word = unit(3, 5, 8), unit(4, 6, 8), torch.ones(4, 6).bool()
    is_word[:, 4:] = False
    expected = token_likeness(patches, words, is_word)
    words[:, 4:] = patches[0, 0]  # better than any word
    for before, now in zip(expected, token_likeness(patches, words, is_word), strict=True):
        assert torch.equal(before, now)


def test_words_are_all_but_start_and_padding(batch):
    """e-23: the end stays."""
    tokens = batch[1]
    assert words_of(tokens).sum().item() == ((tokens != PAD) & (tokens != START)).sum().item()
    assert not words_of(tokens)[:, 0].any() and words_of(tokens)[1, -1]


def test_one_patch_and_one_word_make_it_info_nce():
    patches, words = unit(4, 1, 8), unit(4, 1, 8)
    to_text, to_picture = token_likeness(patches, words, torch.ones(4, 1).bool())
    torch.testing.assert_close(to_text, patches[:, 0] @ words[:, 0].T)
    both = (matching(9 * to_text, NOTHING_SAME) + matching(9 * to_picture, NOTHING_SAME)) / 2
    torch.testing.assert_close(both, info_nce(9 * patches[:, 0] @ words[:, 0].T))


def test_filip_still_trains_what_later_stages_read(configs, batch):
    """e-31: LUC's README switches FILIP on and then reads a class token that got no loss."""
    model = Filip(trainable(configs))
    filip_loss(model, batch, torch.Generator()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    for name in ("image_tower.projection.weight", "text_tower.projection.weight", "log_scale"):
        assert model.clip.get_parameter(name).grad.abs().max() > 1e-5, name
    z_i, z_t, _, _ = model(*batch)
    torch.testing.assert_close(z_i, model.clip.encode_image(batch[0]))
    torch.testing.assert_close(z_t, model.clip.encode_text(batch[1]))
