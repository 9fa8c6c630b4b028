"""A batch in parts has the gradient of the whole. How blocks run changes the memory only."""

from pathlib import Path

import pytest
import torch
from torch import nn

import minidalle2
from minidalle2.clip import CLIP, clip_loss, contrast
from minidalle2.decoder import Decoder, decoder_draws, decoder_loss, decoder_loss_at
from minidalle2.prior import Prior, prior_draws, prior_loss, prior_loss_at
from minidalle2.priors.autoregressive_prior import AutoregressivePrior, autoregressive_draws
from minidalle2.priors.kinds import no_draws
from minidalle2.scale import accumulation, distributed
from minidalle2.scale.accumulation import accumulated, contrasted, loss_in_parts, own_draws
from minidalle2.scale.distributed import check_own, equal_parts, own_rows
from minidalle2.scale.recompute import recompute_activations
from minidalle2.tokenizer import END, Tokenizer
from minidalle2.training.ema import EMA
from minidalle2.training.jobs import ContrastiveJob, Job, count, rows_of
from minidalle2.training.stages import embed_pairs
from minidalle2.upsampler import Upsampler, upsampler_draws

N = 12


def tokens(tokenizer: Tokenizer) -> torch.Tensor:
    """Twelve captions, the third and the last of them equal."""
    ids = torch.randint(4, tokenizer.vocab_size, (N, 5))
    ids[:, -1] = END
    ids[-1] = ids[2]
    return ids


@pytest.fixture(params=["prior", "decoder"])
def stage(request, configs, tokenizer):
    """→ model, batch, its loss, and the two functions of which the loss consists."""
    z_i, z_t = torch.nn.functional.normalize(torch.randn(2, N, 12), dim=-1)
    if request.param == "prior":
        model, batch, loss = Prior(configs.prior), (z_i, z_t, tokens(tokenizer)), prior_loss
        apart = prior_draws, prior_loss_at
    else:
        images = torch.rand(N, 3, 32, 32) * 2 - 1
        model, loss = Decoder(configs.decoder), decoder_loss
        batch = (images, z_i, tokens(tokenizer))
        apart = decoder_draws, decoder_loss_at
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model, batch, loss, apart


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


@pytest.mark.parametrize("parts", [1, 2, 3, 12])
def test_parts_have_the_gradient_of_the_whole(stage, parts):
    model, batch, loss, apart = stage
    expected = gradient(model, batch, loss)
    assert_same(gradient(model, batch, accumulated(*apart, parts)), expected)
    job = Job(model, None, None, *apart)
    assert_same(gradient(model, batch, loss_in_parts(job, parts)), expected)


def test_clips_parts_see_the_whole_batch(configs, tokenizer):
    clip, batch = CLIP(configs.clip), (torch.randn(N, 3, 32, 32), tokens(tokenizer))
    whole = gradient(clip, batch, clip_loss)
    job = ContrastiveJob(clip, None, None, embed_pairs, contrast)
    for parts in (1, 3):
        assert_same(gradient(clip, batch, contrasted(embed_pairs, contrast, parts)), whole)
        assert_same(gradient(clip, batch, loss_in_parts(job, parts)), whole)

    def loss_at(clip, batch, draws):
        return clip_loss(clip, batch, torch.Generator())

    plain = gradient(clip, batch, accumulated(no_draws, loss_at, 3))
    assert plain[0] < whole[0] - 0.5  # a part alone has fewer negatives, which is easier


def test_uneven_parts_are_refused(stage):
    model, batch, _, apart = stage
    with pytest.raises(ValueError, match="batch of 12 can't be divided into 5 equal parts"):
        accumulated(*apart, 5)(model, batch, torch.Generator())


# The random numbers of parts


DRAWS = {
    "prior": (Prior, prior_draws),
    "autoregressive_prior": (AutoregressivePrior, autoregressive_draws),
    "decoder": (Decoder, decoder_draws),
    "upsampler64": (
        Upsampler,
        lambda model, n, generator: upsampler_draws(model, (n, 3, 16, 16), generator),
    ),
}


@pytest.fixture
def pretend(monkeypatch):
    """Pretends to be one of several processes."""

    def process(number: int, of: int) -> None:
        for module in (distributed, accumulation):
            monkeypatch.setattr(module, "processes", lambda: of)
        monkeypatch.setattr(distributed, "number", lambda: number)

    return process


@pytest.mark.parametrize("name", DRAWS)
def test_a_part_draws_what_its_rows_get_in_the_whole(configs, pretend, name):
    """Processes and passes cut the random numbers that one process draws for the whole batch."""
    kind, draws = DRAWS[name]
    model = kind(getattr(configs, name))

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    generator = seeded()
    whole = draws(model, 12, generator)
    assert all(len(draw) == 12 for draw in whole) and count(whole) == 12
    for of in (1, 2, 3):
        for process, rows in enumerate(equal_parts(12, of)):
            pretend(process, of)
            assert own_rows(12) == rows
            mine = seeded()
            own = own_draws(draws, model, torch.zeros(12 // of), mine)
            assert same(own, [draw[rows] for draw in whole])
            assert torch.equal(mine.get_state(), generator.get_state())
    pretend(1, 2)
    own = own_draws(draws, model, torch.zeros(6), seeded())
    assert same(rows_of(own, slice(2, 4)), [draw[8:10] for draw in whole])  # a part of a part


def same(found, expected) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_batch_with_the_rows_of_others_is_refused(pretend):
    pretend(1, 2)
    check_own((torch.zeros(6, 3),), 12)
    with pytest.raises(ValueError, match="has 12 rows, but the part of this process is 6 of 12"):
        check_own((torch.zeros(12, 3),), 12)


def test_each_pass_gets_its_own_rows_of_the_random_numbers(pretend):
    """In the second of two processes, three passes use the rows 6 to 11 of the whole batch."""
    seen = []

    def draws(model, n, generator):
        return torch.arange(n), torch.rand(n, 2, generator=generator)

    def loss_at(model, batch, drawn):
        seen.append((batch, *drawn))
        return model(drawn[1]).mean()

    pretend(1, 2)
    model = nn.Linear(2, 1)
    loss = accumulated(draws, loss_at, 3)
    loss(model, torch.arange(100, 106), torch.Generator().manual_seed(1))
    uniform = torch.rand(12, 2, generator=torch.Generator().manual_seed(1))
    assert [batch.tolist() for batch, _, _ in seen] == [[100, 101], [102, 103], [104, 105]]
    assert [rows.tolist() for _, rows, _ in seen] == [[6, 7], [8, 9], [10, 11]]
    assert torch.equal(torch.cat([drawn for _, _, drawn in seen]), uniform[6:])


def test_a_loss_draws_nothing_besides_its_draws(stage):
    """`loss_at` has no generator. It must not use torch's global one instead."""
    model, batch, loss, (draws, loss_at) = stage
    drawn = draws(model, N, torch.Generator().manual_seed(3))
    before = torch.get_rng_state()
    first, again = (loss_at(model, batch, drawn) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again == loss(model, batch, torch.Generator().manual_seed(3))


def test_nothing_intercepts_torchs_functions():
    """Random numbers are arguments of the losses. No mode of torch replaces them."""
    for path in Path(minidalle2.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for forbidden in ("TorchFunctionMode", "__torch_function__", "torch.overrides"):
            assert forbidden not in text, path


def test_parts_of_nested_batches():
    batch = (torch.arange(4), {"a": ["p", "q", "r", "s"]})
    rows, more = rows_of(batch, slice(1, 3))
    assert rows.tolist() == [1, 2] and more == {"a": ["q", "r"]}
    assert count(batch) == count(batch[1]) == 4


# Recomputed activations


def test_recomputing_keeps_gradients_and_names(stage):
    model, batch, loss, _ = stage
    expected, names = gradient(model, batch, loss), list(model.state_dict())
    before = kept(model, batch, loss)
    recompute_activations(model)
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
    """Numbers that the forward pass keeps for the backward pass."""
    sizes = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(model, batch, torch.Generator().manual_seed(3))
    return sum(sizes)
