"""The swap test: its three scores, its rows, and the verdicts on drawn prompts of the shapes."""

import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_model import perturbed

from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2
from minidalle2.decoder import Decoder
from minidalle2.evaluation import drawn
from minidalle2.evaluation.rows import wilson_interval
from minidalle2.evaluation.swaps import QUESTIONS, VERDICTS, score_rows, swap_scores
from minidalle2.prior import Prior
from minidalle2.tokenizer import Tokenizer
from minidalle2.upsampler import Upsampler
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation import binding
from minidalle2.worlds.shapes.evaluation import drawn as shapes_drawn
from minidalle2.worlds.shapes.judge import Judge, JudgeConfig, answers_of, judge_loss, read
from minidalle2.worlds.shapes.scenes import COLOURS, concatenate, sample_scenes

SWAP_RIGHT = [[2.0, 1.0], [1.0, 2.0]]
TEXT_HALF = [[5.0, 4.0], [1.0, 2.0]]  # each picture finds its caption; one caption errs


@pytest.fixture(scope="module")
def tiny(configs) -> DALLE2:
    """Untrained, and able to read any caption of the shapes."""
    scenes = sample_scenes(300, "train", torch.Generator().manual_seed(0))
    tokenizer = Tokenizer.train(describe(scenes, random.Random(0)), vocab_size=420)
    text = {"vocab_size": tokenizer.vocab_size, "context_length": tokenizer.context_length}
    return DALLE2(
        tokenizer,
        perturbed(CLIP(replace(configs.clip, **text))),
        perturbed(Prior(replace(configs.prior, **text))),
        perturbed(Decoder(replace(configs.decoder, **text))),
        perturbed(Upsampler(configs.upsampler64)),
        perturbed(Upsampler(configs.upsampler128)),
    )


# Scores


@pytest.mark.parametrize(
    ("similarity", "scores"),
    [
        (SWAP_RIGHT, (1, 1, 1)),
        ([[1, 2], [2, 1]], (0, 0, 0)),
        ([[3, 2], [1, 0]], (0.5, 0.5, 0)),  # all prefer the first picture and the first caption
        (TEXT_HALF, (1, 0.5, 0)),
        ([[5, 1], [4, 2]], (0.5, 1, 0)),  # the other way round
        ([[1, 1], [1, 1]], (0, 0, 0)),  # a tie counts as wrong
    ],
)
def test_swap_scores_of_one_pair(similarity, scores):
    assert swap_scores(torch.tensor([similarity]).float()) == scores


def test_swap_scores_of_many_pairs():
    right, wrong = torch.tensor(SWAP_RIGHT), torch.tensor(TEXT_HALF)
    assert swap_scores(torch.stack([right, right, right, wrong])) == (1, 0.875, 0.75)
    guesses = torch.rand(40_000, 2, 2, generator=torch.Generator().manual_seed(0))
    assert swap_scores(guesses) == pytest.approx((1 / 2, 1 / 2, 1 / 6), abs=0.01)


def test_rows_have_the_intervals_of_as_many_trials_as_pairs():
    """The two answers about one pair are not independent, so n pairs are n trials, not 2n."""
    similarity = torch.tensor([SWAP_RIGHT, SWAP_RIGHT, SWAP_RIGHT, TEXT_HALF])
    rows = score_rows("binding", similarity, "pairs")
    assert [row["name"] for row in rows] == list(QUESTIONS)
    for row, share in zip(rows, (1, 0.875, 0.75), strict=True):
        assert (row["what"], row["split"], row["n"]) == ("binding", "pairs", 4)
        assert row["accuracy"] == share
        assert (row["low"], row["high"]) == pytest.approx(wilson_interval(4 * share, 4))
    said = " ".join(QUESTIONS)
    assert said.count("chance 50 %") == 2 and "chance 16.7 %" in said


# Of the shapes


@pytest.mark.parametrize("split", binding.SPLITS)
def test_pairs_depend_on_their_seed_only(split):
    def equal(a, b) -> bool:
        return torch.equal(a.colour, b.colour) and torch.equal(a.shape, b.shape)

    pair, again, other = (binding.swap_pairs(split, 60, seed) for seed in (0, 0, 1))
    assert len(pair[0]) == len(pair[1]) == 60
    assert equal(pair[0], again[0]) and equal(pair[1], again[1])
    assert not equal(pair[0], other[0])


def test_captions_of_a_pair_differ_in_the_order_of_two_colours():
    pair = binding.swap_pairs("seen", 40, 0)
    captions = zip(*binding.captions_of(pair, 0), strict=True)
    for (caption, swapped), colours in zip(captions, pair[0].colour.tolist(), strict=True):
        a, b = (text.replace(" an ", " a ").split() for text in (caption, swapped))
        changed = {(x.strip(","), y.strip(",")) for x, y in zip(a, b, strict=True) if x != y}
        one, two = (COLOURS[colour] for colour in colours[:2])
        assert changed - {("an", "a"), ("a", "an")} == {(one, two), (two, one)}


def test_a_clip_that_reads_swaps_has_full_scores(tiny, monkeypatch):
    """Pictures and captions of one scene have one embedding here; the rows keep their order."""
    z = torch.eye(12)[:6]
    seen, said = iter((z[:3], z[3:])), iter((z[:3], z[3:]))
    monkeypatch.setattr(binding, "embed", lambda clip, images: next(seen))
    monkeypatch.setattr(tiny.clip, "encode_text", lambda tokens: next(said))
    similarity = binding.swap_similarities(tiny, "seen", 3, 0)
    assert similarity.shape == (3, 2, 2) and swap_scores(similarity) == (1, 1, 1)


def test_a_judge_can_tell_a_swap():
    """A small judge learns three scenes and their swaps, and reads them at every drawn size."""
    pair = binding.swap_pairs("seen", 3, 1)
    asked, other = concatenate([*pair]), concatenate([*pair[::-1]])
    images = draw(asked, 128)
    assert images.shape == (6, 3, 128, 128) and images.abs().max() <= 1
    torch.manual_seed(0)
    judge = Judge(JudgeConfig(width=8))
    batch = F.avg_pool2d(images, 2), answers_of(asked)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for _ in range(60):
        loss = judge_loss(judge, batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    judge.eval()
    for size in (128, 64):
        seen = read(judge, F.avg_pool2d(images, 128 // size))
        assert binding.verdicts(asked, other, seen) == ["right"] * 6
        assert binding.verdicts(other, asked, seen) == ["swapped"] * 6
    assert all(len(answer) == 6 for answer in read(judge, images[..., ::4, ::4]).values())


@pytest.mark.parametrize("swaps", [0, 1, 2, 5])
def test_drawn_rows_count_verdicts(tiny, few_steps, monkeypatch, swaps):
    """Five prompts of three pairs, so the last scene lacks its swap. They are drawn in batches of
    two, with seeds 0 to 4, and each answer is compared with its own prompt."""
    pair = binding.swap_pairs("seen", 3, 7)
    asked, other = concatenate([*pair])[:5], concatenate([*pair[::-1]])[:5]
    colour = torch.cat((other.colour[:swaps], asked.colour[swaps:]))
    truth = answers_of(replace(asked, colour=colour))
    monkeypatch.setattr(drawn, "BATCH", 2)
    given, reads = [], iter((slice(0, 2), slice(2, 4), slice(4, 5)))

    def read_next(judge, images):
        rows = next(reads)
        return {name: answer[rows] for name, answer in truth.items()}

    monkeypatch.setattr(shapes_drawn, "read", read_next)
    generate = tiny.generate

    def listening(prompts, seeds, sampling, **others):
        given.extend(zip(prompts, seeds, strict=True))
        return generate(prompts, seeds, sampling, **others)

    monkeypatch.setattr(tiny, "generate", listening)
    rows = binding.drawn_rows(tiny, None, "unCLIP", 5, 7, few_steps)
    assert [row["accuracy"] for row in rows] == [1 - swaps / 5, swaps / 5, 0]
    assert [row["name"] for row in rows] == [f"unCLIP: {name}" for name in VERDICTS.values()]
    assert sum(row["accuracy"] for row in rows) == pytest.approx(1)
    assert [seed for _, seed in given] == list(range(5))
    for (prompt, _), colours in zip(given, asked.colour[:, :2].tolist(), strict=True):
        assert all(COLOURS[colour] in prompt for colour in colours)
