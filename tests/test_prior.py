"""The diffusion prior: what it sees, what guidance drops, how z_i is scaled and chosen."""

import pytest
import torch
import torch.nn.functional as F

from minidalle2.diffusion.sampling import Noise
from minidalle2.prior import DEVIATION, Prior, PriorConfig, prior_loss
from minidalle2.tokenizer import PAD
from minidalle2.unclip import nearest

TEXTS = ["a red circle", "a large green star above a red square", "a"]
E = 12


@pytest.fixture
def inputs(tokenizer, prior) -> dict[str, torch.Tensor]:
    return {
        "z_noised": torch.randn(3, E),
        "t": torch.tensor([10, 500, 999]),
        "z_t": F.normalize(torch.randn(3, E), dim=1),
        "tokens": tokenizer(TEXTS),
        "drop": torch.zeros(3, dtype=torch.bool),
    }


def test_shapes(prior, inputs):
    """(B, E), (B,), (B, E), (B, T), (B,) → (B, E); n candidates (B, n, E) of unit length."""
    assert prior(**inputs).shape == (3, E)
    z = prior.candidates(inputs["z_t"], inputs["tokens"], torch.randn(3, 5, E), 2, 1.5)
    assert z.shape == (3, 5, E)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(3, 5))


# What it sees


@pytest.mark.parametrize("name", ["z_noised", "t", "z_t", "tokens", "drop"])
def test_every_input_matters_for_its_own_row(prior, inputs, name, only_row_changes):
    """e-20: conditioning sensitivity, row by row."""
    value = {"t": 20, "drop": True, "tokens": inputs["tokens"].roll(1, 1)[1]}.get(
        name, torch.randn(E)
    )
    only_row_changes(prior, inputs, name, value)


def test_dropping_loses_all_text_and_nothing_else(prior, inputs, only_row_changes):
    """e-8: caption and z_t are gone; the unconditional branch still sees x_t and t."""
    dropped = {**inputs, "drop": torch.ones(3, dtype=torch.bool)}
    without_text = {**dropped, "z_t": torch.randn(3, E), "tokens": inputs["tokens"].roll(1, 0)}
    torch.testing.assert_close(prior(**without_text), prior(**dropped), atol=1e-5, rtol=0)
    only_row_changes(prior, dropped, "z_noised", torch.randn(E))
    only_row_changes(prior, dropped, "t", 20)


@pytest.mark.parametrize("drop", [False, True])
def test_padding_never_matters(prior, inputs, drop):
    """e-23: pads stand between the text and the last four tokens, yet nobody looks at them."""
    inputs["drop"][:] = drop
    longer = {**inputs, "tokens": F.pad(inputs["tokens"], (0, 9), value=PAD)}
    torch.testing.assert_close(prior(**longer), prior(**inputs), atol=1e-5, rtol=0)
    real = int((inputs["tokens"][2] != PAD).sum())
    alone = {name: value[2:] for name, value in inputs.items()}
    alone["tokens"] = alone["tokens"][:, :real]
    torch.testing.assert_close(prior(**alone), prior(**inputs)[2:], atol=1e-5, rtol=0)


def test_order_of_the_tokens(prior, inputs, monkeypatch):
    """Section 2.2: text, z_t, timestep, noised z_i, query; answered at the query, causally."""
    seen = {}

    def transformer(x, mask):
        seen["x"], seen["mask"] = x, mask
        return x

    monkeypatch.setattr(prior.transformer, "forward", transformer)
    answer = prior(**inputs)
    x, mask, length = seen["x"], seen["mask"], inputs["tokens"].shape[1]
    assert x.shape == (3, length + 4, prior.config.width)
    parts = (
        prior.text_projection(inputs["z_t"] * prior.scale),
        prior.time_embedding(inputs["t"]),
        prior.image_projection(inputs["z_noised"]),
        prior.query.expand(3, -1),
    )
    for i, part in enumerate(parts):
        torch.testing.assert_close(x[:, length + i], part + prior.slot[i])
    torch.testing.assert_close(answer, prior.out(x[:, -1]))
    real = F.pad(inputs["tokens"] != PAD, (0, 4), value=True)
    assert torch.equal(mask[:, 0, -1], real)  # the query sees all that is real
    assert not mask[:, 0].triu(1).any()


# Guidance


@pytest.mark.parametrize(("guidance", "dropped"), [(1.0, False), (0.0, True)])
def test_guidance_one_and_zero(prior, inputs, guidance, dropped):
    """e-18: 1 is the conditional answer, 0 the unconditional."""
    denoise = prior.denoiser(inputs["z_t"], inputs["tokens"], guidance)
    expected = prior(**{**inputs, "drop": torch.full((3,), dropped)})
    torch.testing.assert_close(denoise(inputs["z_noised"], inputs["t"]), expected)


def test_guidance_extrapolates(prior, inputs):
    """e-14: u + s (c - u) on x0, its target; with s = 2 as far beyond c as c is from u."""
    answers = [
        prior.denoiser(inputs["z_t"], inputs["tokens"], s)(inputs["z_noised"], inputs["t"])
        for s in (0.0, 1.0, 2.0)
    ]
    torch.testing.assert_close(answers[2] - answers[1], answers[1] - answers[0], atol=1e-5, rtol=0)
    assert (answers[1] - answers[0]).abs().max() > 1e-3


# Scale


@pytest.mark.parametrize(("size", "scale"), [(1024, 17.2), (128, 6.081)])
def test_scale(size, scale):
    """e-9: 17.2 for 1,024 dimensions is a deviation of .5375 each, kept for any E."""
    prior = Prior(PriorConfig(clip_embedding=size, layers=1, width=32))
    assert prior.scale == pytest.approx(scale, abs=1e-3)
    z = F.normalize(torch.randn(200, size), dim=1) * prior.scale
    assert z.std().item() == pytest.approx(0.5375, abs=0.005)


def test_sample_is_scaled_back_once(prior, inputs, monkeypatch):
    """e-9, e-13: unit length comes out, and no clamp bends the direction on the way."""
    direction = torch.tensor([5.0, -4.0] + [0.1] * (E - 2))
    monkeypatch.setattr(prior, "forward", lambda z, *_: direction.expand(len(z), -1))
    z = prior.candidates(inputs["z_t"], inputs["tokens"], torch.randn(3, 2, E), 4, 1.0)
    torch.testing.assert_close(z, F.normalize(direction, dim=0).expand(3, 2, -1))


# Loss


@pytest.fixture
def batch(tokenizer) -> tuple[torch.Tensor, ...]:
    z_i, z_t = (F.normalize(torch.randn(3, E), dim=1) for _ in range(2))
    return z_i, z_t, tokenizer(TEXTS)


def test_loss_of_answering_zero(prior, batch):
    """e-46, e-47: the variance of scaled z_i, 17.2²/1024 = .289, is the baseline to beat."""
    prior.out.weight.zero_()
    prior.out.bias.zero_()
    loss = prior_loss(prior, batch, torch.Generator().manual_seed(0))
    assert pytest.approx(0.289, abs=1e-3) == DEVIATION**2
    assert loss.item() == pytest.approx(0.2889, abs=1e-4)


def test_first_loss(tokenizer, configs, batch):
    """e-46: the fresh network answers 0, so its loss is the variance of a scaled z_i, .289."""
    loss = prior_loss(Prior(configs.prior), batch, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(17.2**2 / 1024, rel=1e-3)


def test_right_answers_cost_nothing(prior, batch, monkeypatch):
    """The target is z_i, scaled, at every t."""
    monkeypatch.setattr(prior, "forward", lambda *_: batch[0] * prior.scale)
    assert prior_loss(prior, batch, torch.Generator().manual_seed(0)) == 0


def test_each_sample_draws_its_own(prior, tokenizer, monkeypatch):
    """e-44: t over the whole schedule, 10 % drops, noise, all by row; reproducible by seed."""
    n, calls = 4000, []

    def forward(z_noised, t, z_t, tokens, drop):
        calls.append((z_noised, t, drop))
        return z_noised

    monkeypatch.setattr(prior, "forward", forward)
    batch = (torch.zeros(n, E), torch.zeros(n, E), tokenizer(["a"]).expand(n, -1))
    losses = [prior_loss(prior, batch, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    (z, t, drop), again, other = calls
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(t, again[1]) and not torch.equal(t, other[1])
    assert t.min() == 0 and t.max() == 999 and t.float().mean().item() == pytest.approx(500, abs=20)
    assert drop.float().mean().item() == pytest.approx(0.1, abs=0.015)
    eps = z / prior.diffusion.schedule.noise[t][:, None]
    assert eps.std().item() == pytest.approx(1, abs=0.01) and len(z.unique(dim=0)) == n


def test_loss_does_not_mutate_cached_embeddings(prior, batch, tokenizer):
    """e-10: a slice of a table is a view; scaling it in place would grow it every epoch."""
    copies = [part.clone() for part in batch]
    prior_loss(prior, batch, torch.Generator().manual_seed(0))
    prior.candidates(batch[1], batch[2], torch.randn(3, 2, E), 2, 2.0)
    assert all(torch.equal(a, b) for a, b in zip(batch, copies, strict=True))


# Candidates


def test_nearest_candidate_by_row():
    """e-16: the candidate with the highest z_i·z_t of its own row."""
    candidates = F.normalize(torch.randn(6, 4, E), dim=-1)
    z_t = F.normalize(torch.randn(6, E), dim=-1)
    chosen = nearest(candidates, z_t)
    assert chosen.shape == (6, 1, E)
    for row in range(6):
        scores = [float(candidates[row, k] @ z_t[row]) for k in range(4)]
        assert torch.equal(chosen[row, 0], candidates[row, scores.index(max(scores))])


def test_several_nearest_candidates():
    """The best comes first. If k > n, the order starts again at the first."""
    z_t = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = F.normalize(torch.tensor([[[1, 2], [2, 1], [1, 1.0]]] * 2), dim=-1)
    rows = torch.arange(2)[:, None]
    for order in ([[1, 2], [0, 2]], [[1, 2, 0, 1, 2], [0, 2, 1, 0, 2]]):
        expected = candidates[rows, torch.tensor(order)]
        assert torch.equal(nearest(candidates, z_t, len(order[0])), expected)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_candidates_do_not_mix_rows(prior, inputs, guidance):
    """e-16: a caption's candidates are those it would have alone."""
    x_T = Noise([0, 1, 2])(4, E)
    together = prior.candidates(inputs["z_t"], inputs["tokens"], x_T, 3, guidance)
    for row in range(3):
        alone = prior.candidates(
            inputs["z_t"][[row]], inputs["tokens"][[row]], x_T[[row]], 3, guidance
        )
        torch.testing.assert_close(together[[row]], alone, atol=1e-4, rtol=0)
    assert torch.pdist(together[0]).min() > 1e-3


def test_training_mode_changes_nothing(prior, inputs):
    """e-25"""
    assert torch.equal(prior.train()(**inputs), prior.eval()(**inputs))


def test_bfloat16_answers_in_float32(prior, inputs):
    """e-48"""
    with torch.autocast("cpu", torch.bfloat16):
        assert prior(**inputs).dtype == torch.float32
