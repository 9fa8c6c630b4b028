"""CLIP's variants that leave the positive out of the sum, or have more than one. Against loops in
float64; where a public implementation errs, the test that would have caught it names the error."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_model import NOTHING_SAME, TEXTS, trainable, unit

from minidalle2.clip import equal_captions, info_nce
from minidalle2.training.contrastive.decoupled import decoupled, decoupled_loss
from minidalle2.training.contrastive.infoloob import (
    SCALE,
    SHARPNESS,
    TwoDirections,
    infoloob,
    infoloob_loss,
    retrieved,
)
from minidalle2.training.contrastive.multi_positive import multi_positive, multi_positive_loss


@pytest.fixture
def batch(tokenizer):
    return torch.rand(4, 3, 32, 32) * 2 - 1, tokenizer(TEXTS)


def decoupled_by_loops(logits, same) -> float:
    """As above, but column k is not in the sum either; rows without negatives don't count."""
    terms = []
    for k, row in enumerate(logits.double().tolist()):
        negatives = [x for column, x in enumerate(row) if not same[k, column]]
        if negatives:
            terms.append(math.log(sum(map(math.exp, negatives))) - row[k])
    return sum(terms) / len(terms)


# Decoupled


@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_decoupled_by_loops(batch, scale):
    same, logits = equal_captions(batch[1]), scale * torch.randn(4, 4)
    assert decoupled(logits, same).item() == pytest.approx(
        decoupled_by_loops(logits, same), abs=1e-5
    )


def test_the_positive_is_gone_at_any_scale():
    """A public DCL (raminnakhli, loss/dcl.py) adds ln(1e-45) = -103.3 to the positive instead of
    leaving it out: at scale 100 it stays the largest term of the sum."""
    logits = 100 * (2 * torch.eye(4) - 1)
    assert decoupled(logits, NOTHING_SAME).item() == pytest.approx(-200 + math.log(3), abs=1e-4)
    added = (logits + math.log(1e-45) * torch.eye(4)).logsumexp(1).mean() - 100
    assert added > -104  # a hundred above


def test_decoupled_is_bounded_below():
    """x-clip's issues 9 and 16: the loss becomes negative, then NaN, for the scale is learned and
    nothing holds it. With a held scale the simplex is the lowest, ln(B-1) - s·B/(B-1)."""
    scale, n = 1 / 0.07, 5
    lowest = math.log(n - 1) - scale * n / (n - 1)
    simplex = F.normalize(torch.eye(n) - 1 / n, dim=1)
    none_same = torch.eye(n).bool()
    assert decoupled(scale * simplex @ simplex.T, none_same).item() == pytest.approx(lowest, 1e-5)
    for _ in range(100):
        near = F.normalize(simplex + 0.05 * torch.randn(n, n), dim=1)
        logits = scale * near @ F.normalize(near + 0.05 * torch.randn(n, n), dim=1).T
        both = (decoupled(logits, none_same) + decoupled(logits.T, none_same)) / 2
        assert both >= lowest


def test_decoupled_leaves_the_scale_alone(configs, batch):
    """e-30: at any scale a larger one would lower it further."""
    clip = trainable(configs)
    loss = decoupled_loss(clip, batch, torch.Generator())
    loss.backward()
    assert clip.log_scale.grad is None
    assert clip.image_tower.projection.weight.grad.abs().max() > 1e-4
    logits = (clip(*batch)).detach()
    same = equal_captions(batch[1])
    expected = (decoupled_by_loops(logits, same) + decoupled_by_loops(logits.T, same)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_info_nce_is_the_softplus_of_decoupled():
    """Where all rows and columns are alike, and so is one pair of directions."""
    row = torch.randn(6)
    logits = torch.stack([row.roll(k) for k in range(6)])
    expected = F.softplus(decoupled(logits, torch.eye(6).bool()))
    torch.testing.assert_close(info_nce(logits), expected)


def test_without_negatives_there_is_one_sentence(configs, tokenizer):
    """e-30: a batch of one would be the logarithm of nothing."""
    clip, images = trainable(configs), torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match="a batch of 2 pairs with one and the same caption"):
        decoupled_loss(clip, (images, tokenizer(["a red circle"] * 2)), torch.Generator())
    same = torch.tensor([[True, False, False], [False, True, True], [False, True, True]])
    assert decoupled(torch.zeros(3, 3), same).isfinite()


# InfoLOOB


def test_retrieval_by_loops():
    queries, stored = unit(3, 8), unit(5, 8)
    for query, answer in zip(queries, retrieved(queries, stored), strict=True):
        weights = [math.exp(SHARPNESS * float(query.double() @ s.double())) for s in stored]
        mean = sum(w * s.double() for w, s in zip(weights, stored, strict=True)) / sum(weights)
        torch.testing.assert_close(answer.double(), mean / mean.norm(), atol=1e-6, rtol=0)


def test_sharp_retrieval_finds_itself_and_dull_retrieval_the_mean():
    z = unit(6, 8)
    torch.testing.assert_close(retrieved(z, z, 1e4), z)
    mean = F.normalize(z.mean(0), dim=0)
    torch.testing.assert_close(retrieved(unit(2, 8), z, 0.0), mean.expand(2, 8))


def test_each_direction_has_projections_and_retrieval_of_its_own(configs, batch):
    """x-clip offers CLOOB as `extra_latent_projection`, with neither of what makes it CLOOB: the
    positive stays in the denominator and nothing is retrieved."""
    model, same = TwoDirections(trainable(configs)), equal_captions(batch[1])
    z_i, z_t, other_i, other_t = model(*batch)
    torch.testing.assert_close(z_i, model.clip.encode_image(batch[0]))
    torch.testing.assert_close(z_t, model.clip.encode_text(batch[1]))
    by_picture = SCALE * retrieved(z_i, z_i) @ retrieved(z_t, z_i).T
    by_text = SCALE * retrieved(other_t, other_t) @ retrieved(other_i, other_t).T
    expected = (decoupled_by_loops(by_picture, same) + decoupled_by_loops(by_text, same)) / 2
    loss = infoloob_loss(model, batch, torch.Generator())
    assert loss.item() == pytest.approx(expected / SCALE, abs=1e-5)
    loss.backward()
    own = (model.clip.image_tower.projection, model.clip.text_tower.projection)
    for projection in (*own, model.image_projection, model.text_projection):
        assert projection.weight.grad.abs().max() > 1e-5
    assert model.clip.log_scale.grad is None


def test_infoloob_goes_on_pulling_where_info_nce_stops():
    """Saturation: pairs that are told apart already get next to no gradient from InfoNCE."""
    z = F.normalize(torch.eye(4) + 0.1 * torch.randn(4, 4), dim=1)
    pulls = []
    for loss in (
        lambda a: info_nce(SCALE * a @ z.T) / SCALE,
        lambda a: infoloob(a, z, NOTHING_SAME),
    ):
        anchors = z.clone().requires_grad_()
        loss(anchors).backward()
        pulls.append(anchors.grad.norm().item())
    assert pulls[0] < 1e-6 and pulls[1] > 0.1


# Equal captions as positives


def test_multi_positive_by_loops(configs, batch):
    clip, same = trainable(configs), equal_captions(batch[1])
    logits, expected = clip(*batch).detach().double(), 0.0
    for matrix in (logits, logits.T):
        for k, row in enumerate(matrix.tolist()):
            positives = [j for j in range(4) if same[k, j]]
            total = math.log(sum(map(math.exp, row)))
            expected += sum(total - row[j] for j in positives) / len(positives) / 8
    loss = multi_positive_loss(clip, batch, torch.Generator())
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_multi_positive_of_different_captions_is_info_nce():
    logits = 3 * torch.randn(4, 4)
    torch.testing.assert_close(multi_positive(logits, NOTHING_SAME), info_nce(logits))


def test_equal_captions_attract():
    """e-29: MBN has 10 captions in batches of 128 and takes equal ones for negatives, which repel;
    masked, they do nothing."""
    same = NOTHING_SAME.clone()
    same[0, 3] = same[3, 0] = True
    gradients = []
    for loss in (info_nce, lambda x: info_nce(x, same), lambda x: multi_positive(x, same)):
        logits = torch.zeros(4, 4, requires_grad=True)
        loss(logits).backward()
        gradients.append(logits.grad[0, 3].item())
    assert gradients == pytest.approx([1 / 16, 0, 1 / 16 - 1 / 8])


def test_floor_of_multi_positive():
    """Perfect embeddings of 4 captions, each twice: ln 2, and nothing left to learn."""
    same = torch.eye(4).bool().repeat_interleave(2, 0).repeat_interleave(2, 1)
    logits = (100.0 * same).requires_grad_()
    loss = multi_positive(logits, same)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5) and logits.grad.abs().max() < 1e-6
