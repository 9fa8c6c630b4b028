"""CLIP's variants that learn from one side alone: views of a picture, masked words of a text."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidalle2.clip import CLIP, clip_loss
from minidalle2.tokenizer import END, PAD, SPECIAL, START
from minidalle2.training.contrastive import masked_language as words
from minidalle2.training.contrastive import self_supervision as views
from minidalle2.training.contrastive.masked_language import (
    MaskedLanguage,
    corrupt,
    masked_language,
    masked_language_loss,
)
from minidalle2.training.contrastive.self_supervision import (
    SimCLR,
    SimSiam,
    nt_xent,
    simclr_loss,
    simsiam_loss,
    towards,
    two_views,
)

TEXTS = ["a red circle", "a large green star above a red square", "a blue circle", "a square"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch(tokenizer):
    return torch.rand(4, 3, 32, 32, generator=seeded()) * 2 - 1, tokenizer(TEXTS)


@pytest.fixture
def trainable(configs):
    torch.manual_seed(1)
    return CLIP(configs.clip)


# Views


def test_each_picture_is_varied_on_its_own():
    """x-clip (visual_ssl.py, RandomApply) throws its dice once for the whole batch: e-44."""
    images = torch.rand(1, 3, 32, 32).expand(8, -1, -1, -1).clone()
    before = images.clone()
    a, b = two_views(images, seeded())
    assert torch.equal(images, before) and a.shape == b.shape == images.shape
    eight = (*a, *b)
    for k, view in enumerate(eight):
        assert all((view - other).abs().max() > 0.01 for other in eight[:k])
    assert a.abs().max() <= 1
    again, _ = two_views(images, seeded())
    assert torch.equal(a, again)


# SimCLR


def test_nt_xent_by_loops():
    a, b = torch.randn(3, 8), torch.randn(3, 8)
    rows = [row.double() / row.double().norm() for row in (*a, *b)]
    total = 0.0
    for k, row in enumerate(rows):
        logits = {j: float(row @ other) / 0.1 for j, other in enumerate(rows) if j != k}
        total += math.log(sum(map(math.exp, logits.values()))) - logits[(k + 3) % 6]
    assert nt_xent(a, b).item() == pytest.approx(total / 6, abs=1e-5)
    torch.testing.assert_close(nt_xent(b, a), nt_xent(a, b))


def test_nt_xent_compares_directions_not_lengths():
    """x-clip (visual_ssl.py, SimCLR) does not normalise: longer vectors alone would lower it."""
    a, b = torch.randn(4, 8), torch.randn(4, 8)
    torch.testing.assert_close(nt_xent(100 * a, 0.01 * b), nt_xent(a, b))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_at_its_ends(temperature):
    """One picture has no negatives; alike views of orthogonal pictures have 2(B-1) of cosine 0."""
    a = torch.randn(1, 8)
    assert nt_xent(a, torch.randn(1, 8), temperature).item() == 0
    value = nt_xent(torch.eye(4), torch.eye(4), temperature).item()
    assert value == pytest.approx(math.log(1 + 6 * math.exp(-1 / temperature)), abs=1e-6)


def test_a_picture_is_one_vector(trainable, batch):
    """x-clip flattens patches into the batch: a picture's own patches became its negatives."""
    assert SimCLR(trainable)(batch[0]).shape == (4, views.PROJECTED)


def test_simclr_loss_is_clips_and_its_own(trainable, batch):
    model = SimCLR(trainable)
    a, b = two_views(batch[0], seeded(3))
    own = nt_xent(model(a), model(b)).item()
    whole = clip_loss(trainable, batch, seeded()).item()
    loss = simclr_loss(model, batch, seeded(3))
    assert loss.item() == pytest.approx(whole + views.WEIGHT * own, abs=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


# SimSiam


def test_towards_by_loops_and_its_target_gets_no_gradient():
    """PatrickHua/SimSiam's issue 39, lightly's 559: is there a stop-gradient? Without it both sides
    meet in one point."""
    predicted, target = torch.randn(3, 8).requires_grad_(), torch.randn(3, 8).requires_grad_()
    loss = towards(predicted, target)
    expected = 0.0
    for p, t in zip(predicted.detach().double(), target.detach().double(), strict=True):
        expected -= float(p @ t / p.norm() / t.norm()) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    loss.backward()
    assert target.grad is None and predicted.grad.abs().max() > 0
    assert towards(target, target).item() == pytest.approx(-1)


def test_gradient_of_simsiam_is_that_with_constant_targets(trainable, batch):
    """Through the whole model: what is predicted might as well have been computed beforehand."""
    model = SimSiam(trainable)
    pictures = two_views(batch[0], seeded(3))
    with torch.no_grad():
        a, b = (model(picture)[0] for picture in pictures)
    loss = simsiam_loss(model, batch, seeded(3))
    loss.backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    predicted_b, predicted_a = (model(picture)[1] for picture in pictures)
    cosine = F.cosine_similarity(predicted_b, b).mean() + F.cosine_similarity(predicted_a, a).mean()
    by_hand = clip_loss(trainable, batch, seeded()) - views.WEIGHT * cosine / 2
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-5)
    for gradient, parameter in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-4)


def test_simsiam_keeps_no_running_averages(trainable, batch):
    """Two passes a step would count every batch twice (e-33), and nothing ever reads them."""
    assert not list(SimSiam(trainable).buffers())
    with pytest.raises(ValueError, match="1 picture teaches it nothing; take a batch of 2 or more"):
        simsiam_loss(SimSiam(trainable), (batch[0][:1], batch[1][:1]), seeded())


# Masked words


def test_corruption_is_80_10_10_of_15_percent():
    tokens = torch.randint(SPECIAL, 300, (400, 50), generator=seeded(1))
    corrupted, masked, chosen = corrupt(tokens, 300, seeded())
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (masked & ~chosen).sum() == 0
    shares = [masked, (corrupted != tokens) & chosen, (corrupted == tokens) & chosen & ~masked]
    for share, expected in zip(shares, (0.8, 0.1, 0.1), strict=True):
        assert (share.sum() / chosen.sum()).item() == pytest.approx(expected, abs=0.02)
    assert not ((corrupted != tokens) & masked).any()


def test_nothing_but_chosen_words_is_touched(tokenizer):
    """x-clip (mlm.py) puts random tokens in the place of any token, padding too, chosen or not; and
    its mask is token 2, which here would be the end."""
    tokens = F.pad(tokenizer(TEXTS * 50), (0, 5), value=PAD)
    corrupted, masked, chosen = corrupt(tokens, tokenizer.vocab_size, seeded())
    assert chosen.any() and (corrupted != tokens).any()
    assert torch.equal(corrupted[~chosen], tokens[~chosen])
    special = (tokens == PAD) | (tokens == START) | (tokens == END)
    assert not (chosen & special).any() and (corrupted[chosen] >= SPECIAL).all()


def test_masked_language_by_loops(trainable, batch):
    model, tokens = MaskedLanguage(trainable), batch[1].repeat(4, 1)
    corrupted, masked, chosen = corrupt(tokens, model.config.vocab_size, seeded(2))
    logits = model.head(model(corrupted, masked)).double()
    terms = []
    for row, column in chosen.nonzero().tolist():
        scores = logits[row, column].tolist()
        total = math.log(sum(map(math.exp, scores)))
        terms.append(total - scores[tokens[row, column]])
    loss = masked_language(model, tokens, seeded(2))
    assert len(terms) > 3 and loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


def test_masked_language_where_nothing_is_chosen(trainable, monkeypatch, batch):
    monkeypatch.setattr(words, "CHOSEN", 0.0)
    model = MaskedLanguage(trainable)
    loss = masked_language(model, batch[1], seeded())
    loss.backward()
    assert loss.item() == 0 and model.head.weight.grad.abs().max() == 0


def test_masked_language_reads_both_ways_but_no_padding(trainable, batch):
    model, tokens = MaskedLanguage(trainable), batch[1]
    nowhere = torch.zeros_like(tokens, dtype=torch.bool)
    expected = model(tokens, nowhere)
    longer = model(F.pad(tokens, (0, 6), value=PAD), F.pad(nowhere, (0, 6)))
    real = tokens != PAD
    torch.testing.assert_close(longer[:, : tokens.shape[1]][real], expected[real])
    later = tokens.clone()
    later[0, 3] = SPECIAL + (later[0, 3] - SPECIAL + 1) % 200
    assert (model(later, nowhere)[0, 1] - expected[0, 1]).abs().max() > 1e-5


def test_a_masked_word_can_not_be_seen(trainable, batch):
    model, tokens = MaskedLanguage(trainable), batch[1]
    masked = torch.zeros_like(tokens, dtype=torch.bool)
    masked[:, 2] = True
    other = tokens.clone()
    other[:, 2] = SPECIAL
    assert torch.equal(model(tokens, masked), model(other, masked))


def test_masked_language_trains_the_text_tower_and_no_picture(trainable, batch):
    model = MaskedLanguage(trainable)
    masked_language(model, batch[1].repeat(4, 1), seeded()).backward()
    assert all(p.grad is None for p in trainable.image_tower.parameters())
    for name, parameter in trainable.text_tower.encoder.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert model.mask.grad.abs().max() > 0 and model.head.weight.grad.abs().max() > 0
    whole = clip_loss(trainable, batch, seeded()).item()
    own = masked_language(model, batch[1], seeded(5)).item()
    loss = masked_language_loss(model, batch, seeded(5)).item()
    assert loss == pytest.approx(whole + words.WEIGHT * own, abs=1e-5)
