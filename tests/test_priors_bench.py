"""The bench of the priors: its measures on vectors that one can check by hand, and the command."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from tiny_model import save_tiny

from minidalle2.commands import compare_priors
from minidalle2.dalle2 import Sampling
from minidalle2.diffusion.sampling import Noise, ddpm, last
from minidalle2.evaluation import priors
from minidalle2.evaluation.similarity import (
    Pairs,
    best_of_n_rows,
    diversity,
    draw,
    embedded,
    guidance_rows,
    similarity_row,
)
from minidalle2.priors.analytic_prior import AnalyticPrior
from minidalle2.priors.regression_prior import RegressionPrior, RegressionPriorConfig
from minidalle2.storage.checkpoints import save_model
from minidalle2.worlds.catalogue import open_world

E = 12


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, E), dim=-1)


@pytest.fixture
def pairs(tokenizer) -> Pairs:
    return Pairs(unit(3), unit(3), tokenizer(["a red circle", "a", "a blue square"]))


class Recording:
    """A prior that answers with its noise and remembers what it was asked."""

    noise_size = E

    def __init__(self):
        self.asked = []

    def candidates(self, z_t, tokens, x_T, steps, guidance):
        self.asked.append((len(z_t), x_T.shape, steps, guidance))
        return F.normalize(x_T, dim=-1)


# Measures


def test_diversity():
    """1 where all candidates are alike, 0 where they are orthogonal, the mean of all pairs."""
    alike, orthogonal = torch.eye(4)[:1].expand(3, -1), torch.eye(4)[:3]
    assert diversity(alike[None]) == pytest.approx(1)
    assert diversity(orthogonal[None]) == pytest.approx(0)
    assert diversity(torch.stack((alike, orthogonal))) == pytest.approx(0.5)
    mixed = torch.tensor([[[1.0, 0], [1, 0], [0, 1]]])
    assert diversity(mixed) == pytest.approx(1 / 3)
    assert diversity(alike[None, :1]) is None


def test_similarities_by_hand(pairs):
    """Cosines to its own z_i, its own z_t and the z_t of the caption before, over all draws."""
    z = unit(3, 4)
    row = similarity_row("some", z, pairs, 1.5, 20.0)
    others = {"to true": pairs.z_i, "to text": pairs.z_t, "to unrelated": pairs.z_t[[2, 0, 1]]}
    for name, other in others.items():
        by_hand = [float(z[b, k] @ other[b]) for b in range(3) for k in range(4)]
        assert row[name] == pytest.approx(sum(by_hand) / 12, abs=1e-6)
    assert (row["prior"], row["guidance"], row["ms"]) == ("some", 1.5, 20.0)


def test_the_truth_is_most_similar_to_itself(pairs):
    row = similarity_row("real pictures", pairs.z_i[:, None], pairs)
    assert row["to true"] == pytest.approx(1) and row["diversity"] is None


def test_best_of_n(pairs):
    """The one of the first n that is nearest to its own z_t; the nearness grows with n."""
    z = unit(3, 8)
    rows = best_of_n_rows("some", z, pairs)
    assert [row["n"] for row in rows] == [1, 2, 4, 8]
    for row in rows:
        n = row["n"]
        best = [max(range(n), key=lambda k, b=b: float(z[b, k] @ pairs.z_t[b])) for b in range(3)]
        true = sum(float(z[b, best[b]] @ pairs.z_i[b]) for b in range(3)) / 3
        text = sum(float(z[b, best[b]] @ pairs.z_t[b]) for b in range(3)) / 3
        assert row["to true"] == pytest.approx(true, abs=1e-6)
        assert row["to text"] == pytest.approx(text, abs=1e-6)
    texts = [row["to text"] for row in rows]
    assert texts == sorted(texts)


def test_guidance_reaches_the_prior(pairs):
    prior = Recording()
    rows = guidance_rows("some", prior, pairs, 2, (0.0, 1.0, 4.0))
    assert [row["guidance"] for row in rows] == [0.0, 1.0, 4.0]
    assert [guidance for *_, guidance in prior.asked] == [0.0, 1.0, 4.0]


def test_noise_is_a_caption_s_own(pairs, monkeypatch):
    """The same in batches of any size, and the same for every prior that takes as much."""
    whole, ms = draw(Recording(), pairs, 4, 1.5)
    assert whole.shape == (3, 4, E) and ms > 0
    prior = Recording()
    monkeypatch.setattr("minidalle2.evaluation.similarity.BATCH", 2)
    assert torch.equal(draw(prior, pairs, 4, 1.5, steps=7)[0], whole)
    assert prior.asked == [(2, (2, 4, E), 7, 1.5), (1, (1, 4, E), 7, 1.5)]


def test_embedded_pairs(clip, tokenizer):
    """Unit length, and the same for the same seed and split."""
    world = open_world("shapes")
    one, again, other = (embedded(world, clip, tokenizer, 5, seed, "seen") for seed in (0, 0, 1))
    assert one.z_i.shape == one.z_t.shape == (5, E) and len(one.tokens) == 5
    torch.testing.assert_close(one.z_i.norm(dim=1), torch.ones(5))
    assert torch.equal(one.z_i, again.z_i) and torch.equal(one.tokens, again.tokens)
    assert not torch.equal(one.z_i, other.z_i)


# Analytic-DPM as a prior


def test_analytic_prior_is_ddpm_with_its_variance(prior, pairs):
    """All its noise is x_T's: the start, then one piece a step but the last."""
    analytic = AnalyticPrior(prior, pairs.z_i, pairs.z_t, pairs.tokens, steps=4)
    x_T = Noise([0, 1, 2])(2, analytic.noise_size)
    drawn = analytic.candidates(pairs.z_t, pairs.tokens, x_T, 99, 1.5)
    assert drawn.shape == (3, 2, E)
    pieces = iter(x_T[1, 1].reshape(4, 1, E))
    denoise = prior.denoiser(pairs.z_t[1:2], pairs.tokens[1:2], 1.5)
    alone = ddpm(
        prior.diffusion,
        denoise,
        next(pieces),
        4,
        lambda *_: next(pieces),
        variance=analytic.variance,
    )
    torch.testing.assert_close(drawn[1, 1], F.normalize(last(alone), dim=1)[0], atol=1e-4, rtol=0)
    assert len(analytic.variance) == 4 and (analytic.variance[:-1] > 0).all()


# Decoding


def test_accuracy_is_that_of_the_machine_with_the_prior(tiny_dalle2, monkeypatch):
    asked = []

    def prompt_row(dalle2, judge, name, n, seed, sampling):
        asked.append((dalle2, name, n, sampling))
        return {"what": "prompts", "n": n, "accuracy": 0.5, "low": 0.4, "high": 0.6}

    monkeypatch.setattr(compare_priors, "prompt_row", prompt_row)
    other, sampling = Recording(), Sampling(drawings=1)
    row = compare_priors.accuracy_row("some", other, tiny_dalle2, None, 7, sampling)
    dalle2, name, n, used = asked[0]
    assert dalle2.prior is other and dalle2.decoder is tiny_dalle2.decoder
    assert tiny_dalle2.prior is not other
    assert (name, n, used) == ("two objects", 7, sampling)
    assert row == {"prior": "some", "drawings": 1, "n": 7, "accuracy": 0.5, "low": 0.4, "high": 0.6}


# The command


@pytest.fixture
def weights(tiny_dalle2, autoregressive_prior, tmp_path, monkeypatch):
    monkeypatch.setattr(priors, "AnalyticPrior", partial(AnalyticPrior, steps=3))
    folder = save_tiny(tiny_dalle2, tmp_path / "weights")
    save_model(folder / "autoregressive_prior", "autoregressive_prior", autoregressive_prior)
    mlp = RegressionPrior(RegressionPriorConfig(E, 16))
    save_model(folder / "regression_prior", "regression_prior", mlp)
    return folder


def test_all_tables(weights, tmp_path, capsys, bars, monkeypatch):
    """Every prior in the folder, and the two that need no training, in every table."""
    monkeypatch.setattr(priors, "STEPS", 3)  # as in `weights`
    file = tmp_path / "priors.json"
    options = ["--device", "cpu", "-n", "3", "--pairs", "20", "--json", str(file)]
    compare_priors.main(["--weights", str(weights), *options])
    tables = json.loads(file.read_text(encoding="utf-8"))
    names = ["ridge", "autoregressive", "regression", "diffusion", "analytic"]
    seen = {table: list(dict.fromkeys(r["prior"] for r in rows)) for table, rows in tables.items()}
    assert seen == {
        "similarity": ["real pictures", "z_t itself", *names],
        "best of n": names,
        "guidance": ["autoregressive", "diffusion", "analytic"],
    }
    ridge = next(row for row in tables["similarity"] if row["prior"] == "ridge")
    assert ridge["guidance"] is None
    assert ridge["diversity"] == pytest.approx(1, abs=1e-5) and ridge["ms"] > 0
    printed = capsys.readouterr().out
    assert "best of n" in printed and len(printed.splitlines()) > 7 + 20 + 15
    assert {"embedding 20 pictures", "analytic prior", "diffusion, guidance 4"} < set(bars.full())


def test_priors_that_were_not_trained_are_left_out(tiny_dalle2, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(priors, "AnalyticPrior", partial(AnalyticPrior, steps=2))
    folder = save_tiny(tiny_dalle2, tmp_path)
    assert list(priors.all_priors(folder, tiny_dalle2, pairs)) == ["ridge", "diffusion", "analytic"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-n", "1"], "at least 2"),
        (["--world", "emoji", "--weights", "w", "--prompts", "3"], "judge of the shapes"),
        (["--weights", "nowhere", "-n", "2"], "no weights in nowhere"),
        (["--world", "atlantis"], "atlantis"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence):
    with pytest.raises(SystemExit, match=sentence) as stop:
        compare_priors.main(options)
    assert str(stop.value).startswith("minidalle2: ")
