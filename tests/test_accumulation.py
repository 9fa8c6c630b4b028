"""A batch in parts has the gradient of the whole; how blocks run changes no more than memory."""

import pytest
import torch
from torch import nn

from minidalle2.clip import CLIP, clip_loss
from minidalle2.decoder import Decoder, decoder_loss
from minidalle2.prior import Prior, prior_loss
from minidalle2.tokenizer import END, Tokenizer
from minidalle2.training.accumulation import accumulated, clip_loss_of_all
from minidalle2.training.ema import EMA
from minidalle2.training.execution import Execution, prepare
from minidalle2.training.rows import Drawn, count, equal_parts, part

N = 12


def tokens(tokenizer: Tokenizer) -> torch.Tensor:
    """Twelve captions, the third and the last of them equal."""
    ids = torch.randint(4, tokenizer.vocab_size, (N, 5))
    ids[:, -1] = END
    ids[-1] = ids[2]
    return ids


@pytest.fixture(params=["prior", "decoder"])
def stage(request, configs, tokenizer):
    """→ model, batch, loss; every weight matters."""
    z_i, z_t = torch.nn.functional.normalize(torch.randn(2, N, 12), dim=-1)
    if request.param == "prior":
        model, batch, loss = Prior(configs.prior), (z_i, z_t, tokens(tokenizer)), prior_loss
    else:
        images = torch.rand(N, 3, 32, 32) * 2 - 1
        model, loss = Decoder(configs.decoder), decoder_loss
        batch = (images, z_i, tokens(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model, batch, loss


def gradient(model, batch, loss) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    value = loss(model, batch, torch.Generator().manual_seed(3))
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same(found, expected) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    largest = max(g.abs().max().item() for g in expected[1].values())
    assert largest > 1e-3
    for name, g in expected[1].items():
        torch.testing.assert_close(found[1][name], g, atol=1e-5 * largest, rtol=0)


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_have_the_gradient_of_the_whole(stage, parts):
    model, batch, loss = stage
    assert_same(gradient(model, batch, accumulated(loss, parts)), gradient(model, batch, loss))


def test_clips_parts_see_the_whole_batch(configs, tokenizer):
    clip, batch = CLIP(configs.clip), (torch.randn(N, 3, 32, 32), tokens(tokenizer))
    whole = gradient(clip, batch, clip_loss)
    assert_same(gradient(clip, batch, clip_loss_of_all(1)), whole)
    assert_same(gradient(clip, batch, clip_loss_of_all(3)), whole)
    plain = gradient(clip, batch, accumulated(clip_loss, 3))  # the easier task among four
    assert plain[0] < whole[0] - 0.5


def test_uneven_parts_are_refused(stage):
    model, batch, loss = stage
    with pytest.raises(ValueError, match="batch of 12 can't be divided into 5 equal parts"):
        accumulated(loss, 5)(model, batch, torch.Generator())


def test_a_part_draws_what_its_rows_get_in_the_whole():
    def draw(n: int) -> list[torch.Tensor]:
        g = torch.Generator().manual_seed(1)
        return [
            torch.randn((n, 2), generator=g), torch.rand(n, generator=g),
            torch.randint(9, (n,), generator=g), torch.rand(n, 1, 1, generator=g),
        ]  # fmt: skip

    whole = draw(12)
    for rows in equal_parts(12, 3):
        with Drawn(rows, 12):
            assert all(torch.equal(a, b[rows]) for a, b in zip(draw(4), whole, strict=True))
    with Drawn(slice(6, 12), 12), Drawn(slice(2, 4), 6):  # the second third of the second half
        assert all(torch.equal(a, b[8:10]) for a, b in zip(draw(2), whole, strict=True))


def test_what_is_not_drawn_for_rows_is_refused():
    g = torch.Generator()
    with Drawn(slice(0, 2), 4):
        with pytest.raises(ValueError, match="draws with randperm"):
            torch.randperm(2, generator=g)
        with pytest.raises(ValueError, match=r"shape \(3,\), not for each of its 2 rows"):
            torch.rand(3, generator=g)
        assert torch.rand(3).shape == (3,)  # without a generator it is no part of the training


def test_parts_of_nested_batches():
    batch = (torch.arange(4), {"a": ["p", "q", "r", "s"]})
    rows, more = part(batch, slice(1, 3))
    assert rows.tolist() == [1, 2] and more == {"a": ["q", "r"]}
    assert count(batch) == count(batch[1]) == 4


def test_recomputing_keeps_gradients_and_names(stage):
    model, batch, loss = stage
    expected, names = gradient(model, batch, loss), list(model.state_dict())
    before = kept(model, batch, loss)
    prepare(model, Execution(recompute=True))
    assert_same(gradient(model, batch, loss), expected)
    assert list(model.state_dict()) == names
    assert kept(model, batch, loss) < 0.6 * before
    average = EMA(model, 0.9).model  # a copy must not run the original's blocks
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.zero_()
    assert average.training is False and gradient(model, batch, loss)[0] == expected[0]
    assert loss(average, batch, torch.Generator().manual_seed(3)) != expected[0]


def kept(model: nn.Module, batch, loss) -> int:
    """Numbers that the forward pass keeps for the way back."""
    sizes = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(model, batch, torch.Generator().manual_seed(3))
    return sum(sizes)
