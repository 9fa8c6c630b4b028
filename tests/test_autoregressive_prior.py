"""The autoregressive prior: components and buckets, what it reads and says, how it is drawn."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from minidalle2.blocks.transformer import Transformer, causal_mask
from minidalle2.dalle2 import DALLE2
from minidalle2.diffusion.sampling import Noise
from minidalle2.priors.autoregressive_prior import (
    AutoregressivePrior,
    AutoregressivePriorConfig,
    above,
    autoregressive_prior_loss,
    normal_cdf,
    pick,
)
from minidalle2.priors.causal_cache import Cache, read_on
from minidalle2.priors.pca import PCA
from minidalle2.priors.quantisation import dequantise, edges_by_quantile, edges_by_range, quantise
from minidalle2.storage.checkpoints import CheckpointError, load_model, save_model, save_tokenizer
from minidalle2.tokenizer import PAD
from minidalle2.training import stages
from minidalle2.training.embedded import Embedded
from minidalle2.training.recipe import Recipe
from minidalle2.training.world import Sizes

TEXTS = ["a red circle", "a large green star above a red square", "a"]
E, K, N = 12, 7, 16  # as in conftest.py


@pytest.fixture
def ar(autoregressive_prior) -> AutoregressivePrior:
    return autoregressive_prior


@pytest.fixture
def z() -> torch.Tensor:
    return F.normalize(torch.randn(400, E) * torch.logspace(0, -1, E), dim=1)


@pytest.fixture
def inputs(tokenizer) -> dict[str, torch.Tensor]:
    return {
        "known": torch.randint(N, (3, K - 1)),
        "similarity": torch.tensor([3, 9, 15]),
        "z_t": F.normalize(torch.randn(3, E), dim=1),
        "tokens": tokenizer(TEXTS),
        "drop": torch.zeros(3, dtype=torch.bool),
    }


# Components


def test_components_come_largest_first_with_fixed_signs(ar, z):
    """e-42: token k is always the k-th component by eigenvalue, and not sometimes its opposite."""
    ar.measure(z, z)
    coordinates = (z - ar.mean) @ ar.components.T
    eigenvalues = torch.linalg.eigvalsh(torch.cov(z.T)).flip(0)
    torch.testing.assert_close(coordinates.var(0), eigenvalues[:K], rtol=1e-3, atol=1e-6)
    assert (coordinates.var(0).diff() < 0).all()
    signs = ar.components.gather(1, ar.components.abs().argmax(1, keepdim=True))
    assert (signs > 0).all()
    before = ar.components.clone()
    ar.measure(z.flip(0), z.flip(0))
    torch.testing.assert_close(ar.components, before, atol=1e-4, rtol=0)


def test_error_of_the_components_is_reported(ar, z):
    """e-42: the share of the variance that is lost, the eigenvalues that were left out."""
    eigenvalues = torch.linalg.eigvalsh(torch.cov(z.T)).flip(0)
    lost = (eigenvalues[K:].sum() / eigenvalues.sum()).item()
    assert ar.measure(z, z) == pytest.approx(lost, rel=1e-3)
    assert 0.001 < lost < 0.2


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_fewest_components_that_keep_a_share(z, share):
    kept = PCA.keeping(z, share)
    k = len(kept.variance)
    assert kept.error(z) <= 1 - share + 1e-5
    assert k == 1 or PCA.fit(z, k - 1).error(z) > 1 - share


def test_error_of_rows_that_were_not_fitted():
    """Along a direction that the fitted rows lack, everything is lost."""
    flat = torch.randn(50, 3) * torch.tensor([1.0, 1.0, 0.0])
    assert PCA.fit(flat, 2).error(flat) < 1e-6
    assert PCA.fit(flat, 2).error(torch.eye(3)[[2, 2]] * torch.tensor([[1.0], [3.0]])) > 0.99


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_that_cannot_be_kept(z, share):
    with pytest.raises(ValueError, match="above 0, up to 1"):
        PCA.keeping(z, share)


# Buckets


def test_buckets_by_range():
    """Equally wide, from the smallest to the largest; outside, the end buckets."""
    edges = edges_by_range(torch.tensor([[0.0, -1.0], [4.0, 1.0], [1.0, 0.0]]), 4)
    torch.testing.assert_close(edges, torch.tensor([[0, 1, 2, 3, 4], [-1, -0.5, 0, 0.5, 1]]))
    values = torch.tensor([[-9.0, 0.1], [0.5, 9.0], [1.0, -0.6], [4.0, 0.5]])
    buckets = quantise(values, edges)
    assert buckets.tolist() == [[0, 2], [0, 3], [1, 0], [3, 3]]
    assert dequantise(buckets, edges)[:, 0].tolist() == [0.5, 0.5, 1.5, 3.5]


def test_buckets_by_quantile_are_equally_full():
    values = torch.randn(1600, 2) * torch.tensor([1.0, 5.0])
    buckets = quantise(values, edges_by_quantile(values, 16))
    for column in buckets.T:
        counts = column.bincount(minlength=16)
        assert counts.min() >= 98 and counts.max() <= 102


def test_by_range_is_never_off_by_more_than_half_a_bucket():
    """And less in the mean than by quantile, whose end buckets are wide: why z_i is cut by range.
    128 buckets of a Gaussian: 0.0004 of its variance against 0.003."""
    values = torch.randn(20_000, 1)
    errors = []
    for edges in (edges_by_range(values, 128), edges_by_quantile(values, 128)):
        error = (dequantise(quantise(values, edges), edges) - values).abs()
        errors.append(error)
    width = (values.max() - values.min()) / 128
    assert errors[0].max() <= width / 2 + 1e-5
    assert errors[1].max() > 5 * width
    by_range, by_quantile = (error.square().mean().item() for error in errors)
    assert by_range == pytest.approx((width**2 / 12).item(), rel=0.1)
    assert by_range < by_quantile / 3


def test_encoded_and_decoded(ar, z):
    """Half a bucket a component, plus what the left-out components held."""
    ar.measure(z, z)
    buckets = ar.encode(z)
    assert buckets.shape == (400, K) and buckets.min() == 0 and buckets.max() == N - 1
    restored = ar.mean + dequantise(buckets, ar.edges) @ ar.components
    off = ((restored - z) @ ar.components.T).abs()
    assert (off <= (ar.edges[:, 1] - ar.edges[:, 0]) / 2 + 1e-5).all()
    torch.testing.assert_close(ar.decode(buckets), F.normalize(restored, dim=1))


def test_decoding_the_first_components(ar, z):
    """Coarse to fine: from the mean, each component brings the vectors nearer to what they were."""
    ar.measure(z, z)
    buckets = ar.encode(z)
    nearness = [(ar.decode(buckets[:, :k]) * z).sum(1).mean().item() for k in range(K + 1)]
    torch.testing.assert_close(
        ar.decode(buckets[:, :0]), F.normalize(ar.mean, dim=0).expand(400, -1)
    )
    assert all(a < b for a, b in zip(nearness, nearness[1:], strict=False))
    lengths = ar.decode(buckets[:, :3]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(400))
    several = ar.decode(buckets[:6, :3].view(2, 3, 3))
    torch.testing.assert_close(several.view(6, E), ar.decode(buckets[:6, :3]))


def test_half_precision_does_not_miss_the_bucket(ar, z):
    """e-48: a component in bfloat16 would be rounded by up to half a bucket."""
    ar.measure(z, z)
    exact, similar = ar.encode(z), ar.encode_similarity(z, z.flip(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ar.encode(z), exact)
        assert torch.equal(ar.encode_similarity(z, z.flip(0)), similar)
        torch.testing.assert_close(ar.decode(exact), ar.decode(exact.clone()), atol=0, rtol=0)
        assert ar.decode(exact).dtype == torch.float32


def test_similarity_is_cut_by_quantile(ar, z):
    """Its buckets are equally full, so the upper half of them is the top half of the training."""
    z_t = F.normalize(z + 0.1 * torch.randn(400, E), dim=1)
    ar.measure(z, z_t)
    buckets = ar.encode_similarity(z, z_t)
    assert buckets.bincount(minlength=N).min() >= 23 and buckets.bincount().max() <= 27
    dots = (z * z_t).sum(1)
    assert dots[buckets >= N // 2].min() >= dots.median() >= dots[buckets < N // 2].max()


# What it reads


@pytest.mark.parametrize("name", ["known", "similarity", "z_t", "tokens", "drop"])
def test_every_input_matters_for_its_own_row(ar, inputs, name, only_row_changes):
    """e-20"""
    value = {
        "known": (inputs["known"][1] + 5) % N,
        "similarity": 1,
        "drop": True,
        "tokens": inputs["tokens"].roll(1, 1)[1],
    }.get(name, torch.randn(E))
    only_row_changes(ar, inputs, name, value)


def test_dropping_loses_all_that_is_about_the_text(ar, inputs, only_row_changes):
    """Caption, z_t and z_i·z_t are gone; the components that are known are still seen."""
    dropped = {**inputs, "drop": torch.ones(3, dtype=torch.bool)}
    without = {
        **dropped,
        "z_t": torch.randn(3, E),
        "tokens": inputs["tokens"].roll(1, 0),
        "similarity": inputs["similarity"].flip(0),
    }
    torch.testing.assert_close(ar(**without), ar(**dropped), atol=1e-5, rtol=0)
    only_row_changes(ar, dropped, "known", (inputs["known"][1] + 5) % N)


@pytest.mark.parametrize("drop", [False, True])
def test_padding_never_matters(ar, inputs, drop):
    """e-23: pads stand between the caption and the rest, yet nobody looks at them."""
    inputs["drop"][:] = drop
    longer = {**inputs, "tokens": F.pad(inputs["tokens"], (0, 9), value=PAD)}
    torch.testing.assert_close(ar(**longer), ar(**inputs), atol=1e-5, rtol=0)


def test_a_component_is_said_from_those_before_it(ar, inputs):
    """Causal: changing component k changes what is said of k+1 and later, and nothing earlier."""
    for k in range(K - 1):
        changed = inputs["known"].clone()
        changed[:, k] = (changed[:, k] + 5) % N
        difference = (ar(**{**inputs, "known": changed}) - ar(**inputs)).abs().amax((0, 2))
        assert difference[: k + 1].max() < 1e-6
        assert (difference[k + 1 :] > 1e-4).all()


def test_order_of_the_tokens(ar, inputs, monkeypatch):
    """Section 2.2: text, z_t, z_i·z_t, components; answered from z_i·z_t on."""
    seen = {}

    def transformer(x, mask):
        seen["x"], seen["mask"] = x, mask
        return x

    monkeypatch.setattr(ar.transformer, "forward", transformer)
    answer = ar(**inputs)
    x, mask, length = seen["x"], seen["mask"], inputs["tokens"].shape[1]
    assert x.shape == (3, length + 1 + K, ar.config.width) and answer.shape == (3, K, N)
    rest = torch.stack(
        (
            ar.text_projection(inputs["z_t"] * E**0.5),
            ar.similarity_embedding(inputs["similarity"]),
            *ar.bucket_embedding(inputs["known"]).unbind(1),
        ),
        dim=1,
    )
    torch.testing.assert_close(x[:, length:], rest + ar.slot)
    torch.testing.assert_close(answer, ar.out(x[:, length + 1 :]))
    assert torch.equal(mask[:, 0, -1, :length], inputs["tokens"] != PAD)
    assert not mask[:, 0].triu(1).any() and mask[:, 0, -1, length:].all()


# Loss


@pytest.fixture
def batch(tokenizer) -> tuple[torch.Tensor, ...]:
    z_i, z_t = (F.normalize(torch.randn(3, E), dim=1) for _ in range(2))
    return z_i, z_t, tokenizer(TEXTS)


def test_first_loss(configs, batch):
    """e-46: the fresh network finds all N buckets equally likely."""
    fresh = AutoregressivePrior(configs.autoregressive_prior)
    loss = autoregressive_prior_loss(fresh, batch, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(math.log(N), rel=1e-5)


def test_loss_is_over_the_components_alone(ar, batch):
    """-log p of each of the K buckets of z_i, by hand; nothing that is read is to be foretold."""
    buckets, similarity = ar.encode(batch[0]), ar.encode_similarity(*batch[:2])
    generator = torch.Generator().manual_seed(3)
    drop = torch.rand(3, generator=torch.Generator().manual_seed(3)) < 0.1
    shares = ar(buckets[:, :-1], similarity, batch[1], batch[2], drop).softmax(-1)
    by_hand = [-math.log(shares[b, k, buckets[b, k]]) for b in range(3) for k in range(K)]
    loss = autoregressive_prior_loss(ar, batch, generator)
    assert loss.item() == pytest.approx(sum(by_hand) / (3 * K), rel=1e-4)


def test_right_answers_cost_nothing(ar, batch, monkeypatch):
    right = F.one_hot(ar.encode(batch[0]), N) * 100.0
    monkeypatch.setattr(ar, "forward", lambda *_: right)
    loss = autoregressive_prior_loss(ar, batch, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_each_sample_drops_its_own_text(ar, tokenizer, monkeypatch):
    """e-44: 10 % of the rows, by seed, not all or none."""
    n, drops = 4000, []

    def forward(known, similarity, z_t, tokens, drop):
        drops.append(drop)
        return torch.zeros(n, K, N)

    monkeypatch.setattr(ar, "forward", forward)
    batch = (torch.zeros(n, E), torch.zeros(n, E), tokenizer(["a"]).expand(n, -1))
    for seed in (0, 0, 1):
        autoregressive_prior_loss(ar, batch, torch.Generator().manual_seed(seed))
    assert drops[0].float().mean().item() == pytest.approx(0.1, abs=0.015)
    assert torch.equal(drops[0], drops[1]) and not torch.equal(drops[0], drops[2])


def test_it_learns_what_the_caption_decides(configs, tokenizer):
    """Two captions, two z_i: after 40 steps each is drawn for its own caption."""
    z = F.normalize(torch.randn(52, E), dim=1)
    z_i, tokens = z[:2].repeat(4, 1), tokenizer(TEXTS[:2]).repeat(4, 1)
    model = AutoregressivePrior(configs.autoregressive_prior)
    model.measure(z, z.roll(1, 0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        optimizer.zero_grad()
        loss = autoregressive_prior_loss(model, (z_i, z_i, tokens), generator)
        loss.backward()
        optimizer.step()
    assert loss < 0.4 * math.log(N)
    wished, chance = model.encode_similarity(z_i, z_i), torch.full((2, K), 0.5)
    drawn = model.sample(z_i[:2], tokens[:2], wished[:2], chance, 1.0)
    assert torch.equal(drawn, model.encode(z_i[:2]))


# Sampling


def test_pick_follows_the_probabilities():
    """Even chances hit each bucket as often as it is likely; the ends hit possible buckets."""
    shares = torch.tensor([0.0, 0.5, 0.2, 0.3, 0.0])
    chance = (torch.arange(1000) + 0.5) / 1000
    picked = pick(shares.log().expand(1000, -1), chance)
    assert picked.bincount(minlength=5).tolist() == [0, 500, 200, 300, 0]
    assert (picked.diff() >= 0).all()
    assert pick(shares.log()[None], torch.ones(1)).item() == 3
    assert pick(torch.randn(200, 64), torch.ones(200)).max() < 64


def test_normal_noise_becomes_even_chances():
    chance = normal_cdf(Noise([0])(10_000)[0])
    assert chance.histc(10, 0, 1).sub(1000).abs().max() < 120
    assert normal_cdf(torch.tensor([0.0, 1.96])).tolist() == pytest.approx([0.5, 0.975], abs=1e-3)


@pytest.mark.parametrize(("percentile", "lowest"), [(0.0, 0), (0.5, 8), (0.75, 12), (0.95, 15)])
def test_similarity_is_drawn_from_the_top(percentile, lowest):
    """Footnote 2: the paper tried 50, 70, 85 and 95 %; each bucket above is equally likely."""
    drawn = above(percentile, torch.linspace(0, 1, 1601), 16)
    counts = drawn.bincount(minlength=16)
    assert drawn.min() == lowest and drawn.max() == 15
    assert counts[lowest:].max() - counts[lowest:].min() <= (2 if percentile < 0.9 else 0)


@pytest.mark.parametrize("percentile", [-0.1, 1.0, 50])
def test_a_percentile_that_leaves_nothing(percentile):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        above(percentile, torch.rand(3), 16)


def test_candidates_wish_for_the_top_half(ar, inputs, monkeypatch):
    """And `percentile` moves it."""
    wished = []

    def sample(z_t, tokens, similarity, *_):
        wished.append(similarity)
        return torch.zeros(len(z_t), K, dtype=torch.long)

    monkeypatch.setattr(ar, "sample", sample)
    for options in ({}, {"percentile": 0.95}):
        ar.candidates(inputs["z_t"], inputs["tokens"], torch.randn(3, 50, 1 + K), 0, 1.0, **options)
    assert wished[0].min() == N // 2 and wished[0].max() == N - 1
    assert (wished[1] == N - 1).all()


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_sampling_is_what_the_whole_network_says(ar, inputs, guidance):
    """e-43: u + s (c - u) on logits; and the cache changes nothing: component after component from
    the network as it is trained, with the text and without."""
    chance = torch.rand(3, K)
    text = [inputs[name] for name in ("similarity", "z_t", "tokens", "drop")]
    known = torch.empty(3, 0, dtype=torch.long)
    for k in range(K):
        c, u = ar(known, *text)[:, -1], ar(known, *text[:3], ~text[3])[:, -1]
        known = torch.cat((known, pick(u + guidance * (c - u), chance[:, k])[:, None]), dim=1)
    drawn = ar.sample(inputs["z_t"], inputs["tokens"], inputs["similarity"], chance, guidance)
    assert torch.equal(drawn, known)


def test_little_temperature_takes_the_likeliest(ar, inputs):
    arguments = inputs["z_t"], inputs["tokens"], inputs["similarity"]
    cold = [ar.sample(*arguments, torch.rand(3, K), 1.0, temperature=1e-4) for _ in range(2)]
    warm = [ar.sample(*arguments, torch.rand(3, K), 1.0) for _ in range(2)]
    assert torch.equal(*cold) and not torch.equal(*warm)
    first = ar(
        torch.empty(3, 0, dtype=torch.long), inputs["similarity"], *arguments[:2], inputs["drop"]
    )
    assert torch.equal(cold[0][:, 0], first[:, 0].argmax(-1))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_candidates_do_not_mix_rows(ar, inputs, guidance):
    """e-16: a caption's candidates are those it would have alone, of unit length, and differ."""
    x_T = Noise([0, 1, 2])(4, ar.noise_size)
    together = ar.candidates(inputs["z_t"], inputs["tokens"], x_T, 0, guidance)
    assert together.shape == (3, 4, E)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3, 4))
    for row in range(3):
        one = slice(row, row + 1)
        alone = ar.candidates(inputs["z_t"][one], inputs["tokens"][one], x_T[one], 0, guidance)
        torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=0)
    assert torch.pdist(together[0]).min() > 1e-3


def test_read_in_pieces_is_read_at_once():
    """The cache, in pieces of any size, against the transformer as it is trained."""
    transformer = Transformer(16, 2, 2)
    x = torch.randn(3, 9, 16)
    mask = causal_mask(9, x.device)
    whole, caches = transformer(x, mask), [Cache(9), Cache(9)]
    with torch.no_grad():
        parts = [
            read_on(transformer, x[:, a:b], caches, mask[a:b, :b])
            for a, b in ((0, 4), (4, 5), (5, 8), (8, 9))
        ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


# In its place


def test_checkpoint_is_self_contained(ar, inputs, tmp_path):
    """Components and buckets come with the weights: another process draws the same."""
    save_model(tmp_path, "autoregressive_prior", ar)
    classes = AutoregressivePriorConfig, AutoregressivePrior
    loaded = load_model(tmp_path, "autoregressive_prior", *classes)
    arguments = inputs["z_t"], inputs["tokens"], Noise([0, 1, 2])(2, 1 + K), 0, 1.5
    assert torch.equal(loaded.candidates(*arguments), ar.candidates(*arguments))
    z = F.normalize(torch.randn(20, E), dim=1)
    assert torch.equal(loaded.encode(z), ar.encode(z))


def test_a_picture_depends_on_its_own_prompt_and_seed(tiny_dalle2, ar, few_steps):
    """DALLE2 takes either prior: candidates are those of the prompt and seed alone."""
    tiny_dalle2.prior = ar
    options = {"sampling": few_steps, "stop_after": "image_embeddings"}
    both = tiny_dalle2.generate(TEXTS[:2], [5, 6], **options)
    alone = tiny_dalle2.generate(TEXTS[1:2], [6], **options)
    other = tiny_dalle2.generate(TEXTS[1:2], [7], **options)
    assert both.candidates.shape == (2, 3, E)
    torch.testing.assert_close(both.candidates[1:], alone.candidates, atol=1e-4, rtol=0)
    assert (other.candidates - alone.candidates).abs().max() > 1e-3


def test_loaded_by_name(tiny_dalle2, ar, tmp_path):
    from tiny_model import save_tiny

    folder = save_tiny(tiny_dalle2, tmp_path)
    with pytest.raises(CheckpointError, match="no autoregressive_prior .* train autoreg"):
        DALLE2.load(folder, prior="autoregressive")
    with pytest.raises(ValueError, match="no linear prior; the priors are diffusion, autoregr"):
        DALLE2.load(folder, prior="linear")
    save_model(folder / "autoregressive_prior", "autoregressive_prior", ar)
    assert isinstance(DALLE2.load(folder, prior="autoregressive").prior, AutoregressivePrior)
    assert not isinstance(DALLE2.load(folder).prior, AutoregressivePrior)


def test_draw_with_it(tiny_dalle2, ar, few_steps, tmp_path, capsys):
    """`draw --prior autoregressive`, without its weights and with them."""
    from tiny_model import save_tiny

    from minidalle2.commands.cli import main

    tiny_dalle2.sampling = few_steps
    folder = save_tiny(tiny_dalle2, tmp_path / "weights")
    command = ["draw", "a red circle", "--weights", str(folder), "--out", str(tmp_path / "out")]
    command += ["--size", "32", "--prior", "autoregressive"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("minidalle2: there is no autoregressive_prior") and "train" in error
    save_model(folder / "autoregressive_prior", "autoregressive_prior", ar)
    assert main(command) == 0
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text(encoding="utf-8")
    assert json.loads(manifest)["settings"]["prior"] == "autoregressive"


def test_training_takes_the_components_that_clip_needs(
    tokenizer, configs, clip, tmp_path, monkeypatch
):
    """`train autoregressive_prior` takes as many components as keep 99.9 % of the variance of
    CLIP's z_i, and buckets that cover them."""
    z = F.normalize(torch.randn(400, E) * torch.logspace(0, -2, E), dim=1)
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    save_model(tmp_path / "clip", "clip", clip)
    sizes = Sizes(priors={"autoregressive_prior": configs.autoregressive_prior})
    embedded = Embedded(z, z.roll(1, 0), ["a caption"] * 400, tokenizer)
    monkeypatch.setattr(stages, "embed", lambda *_: embedded)
    world = SimpleNamespace(name="shapes", sizes=sizes, enough=math.inf)
    setting = stages.Setting(world, tmp_path, torch.device("cpu"))
    model = stages.make_job("autoregressive_prior", setting, Recipe(10, 8)).model
    k = model.config.components
    assert 1 < k < E and PCA.fit(z, k).error(z) <= 0.001 < PCA.fit(z, k - 1).error(z)
    assert model.config.vocab_size == tokenizer.vocab_size
    for column in model.encode(z).T:
        assert column.min() == 0 and column.max() == N - 1
    assert ((model.decode(model.encode(z)) * z).sum(1) > 0.98).all()


def test_more_components_than_there_are():
    with pytest.raises(ValueError, match="12 numbers has 1 to 12 components, not 13"):
        AutoregressivePrior(AutoregressivePriorConfig(clip_embedding=12, components=13))
