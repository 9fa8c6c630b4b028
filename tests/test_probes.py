"""The paper's probes: exact on scenes and numbers made by hand, whole on a tiny untrained model."""

import json
import random
import types
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from tiny_model import perturbed, save_tiny

from minidalle2.clip import CLIP
from minidalle2.commands.cli import main
from minidalle2.commands.evaluate import HEADER, chosen, table_line
from minidalle2.dalle2 import DALLE2
from minidalle2.decoder import Decoder
from minidalle2.evaluation import drawn as prompted
from minidalle2.evaluation.rows import gap_row, mean_row, row, value_row
from minidalle2.prior import Prior
from minidalle2.priors.pca import PCA
from minidalle2.storage.checkpoints import save_model
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.glide import CaptionOnly, Glide
from minidalle2.upsampler import Upsampler
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.evaluation import (
    binding,
    drawn,
    guidance_sweep,
    pca_reconstruction,
    probe,
    probing,
    three_rows,
    typographic_attack,
    written_words,
)
from minidalle2.worlds.shapes.evaluation.prompts import follows
from minidalle2.worlds.shapes.judge import Judge, JudgeConfig, answers_of
from minidalle2.worlds.shapes.scenes import (
    COLOURS,
    PLACES,
    SHAPES,
    TOP,
    WORDS,
    concatenate,
    holds_held_out_combination,
    holds_held_out_pair,
    sample_scenes,
)

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes_of(n: int, *kinds: str, split: str = "seen"):
    return sample_scenes(n, split, seeded(n), kinds)


@pytest.fixture
def judge() -> Judge:
    return perturbed(Judge(JudgeConfig(width=8)))


@pytest.fixture(scope="module")
def shapes_tokenizer() -> Tokenizer:
    scenes = sample_scenes(300, "train", seeded())
    return Tokenizer.train(describe(scenes, random.Random(0)), vocab_size=420)


@pytest.fixture
def tiny(configs, shapes_tokenizer) -> DALLE2:
    """Untrained, and able to read any caption of the shapes."""
    text = {"vocab_size": shapes_tokenizer.vocab_size}
    return DALLE2(
        shapes_tokenizer,
        perturbed(CLIP(replace(configs.clip, **text))),
        perturbed(Prior(replace(configs.prior, **text))),
        perturbed(Decoder(replace(configs.decoder, **text))),
        perturbed(Upsampler(configs.upsampler64)),
        perturbed(Upsampler(configs.upsampler128)),
    )


@pytest.fixture
def twin(tiny) -> DALLE2:
    return replace(tiny, decoder=perturbed(Glide(tiny.decoder.config)))


@pytest.fixture
def quick(few_steps):
    return replace(few_steps, drawings=1)


# Rows that are no shares


def test_a_mean_and_its_interval():
    found = mean_row("w", "name", "seen", torch.tensor([1.0, 2, 3, 4]))
    assert found["value"] == 2.5 and found["n"] == 4
    half = 1.96 * (5 / 3) ** 0.5 / 2  # 1.96 deviations of the mean of four
    assert (found["low"], found["high"]) == pytest.approx((2.5 - half, 2.5 + half))
    alone = mean_row("w", "name", "seen", torch.tensor([7.0]))
    assert (alone["value"], alone["low"], alone["high"]) == (7, None, None)


def test_a_gap_has_newcombes_interval():
    """His example (1998, table II): 56 of 70 less 48 of 80."""
    found = gap_row("w", "gap", row("w", "a", "seen", 56, 70), row("w", "b", "seen", 48, 80))
    assert found["value"] == pytest.approx(0.2)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    same = gap_row("w", "gap", row("w", "a", "seen", 9, 9), row("w", "b", "seen", 9, 9))
    assert same["low"] < same["value"] == 0 < same["high"]  # also where nothing varies


def test_both_forms_of_rows_stand_in_one_table():
    share, number = row("pca", "a", "seen", 1, 2), value_row("pca", "b", "seen", 0.25, 2, -1, 1.5)
    lines = [table_line(r) for r in (share, number, value_row("pca", "c", "seen", 12, 2))]
    assert "50.0%" in lines[0] and "0.250  -1.000 to 1.500" in lines[1]
    assert lines[2].endswith("12.000")
    column = HEADER.index("accuracy") + len("accuracy")
    assert all(len(line[:column].rstrip()) == column for line in lines)


def test_probes_are_asked_for():
    assert chosen("all", ("a", "b"), ("p", "q")) == ["a", "b"]
    assert chosen("probes", ("a", "b"), ("p", "q")) == ["p", "q"]
    assert chosen("q, all,q", ("a", "b"), ("p", "q")) == ["q", "a", "b"]
    with pytest.raises(ValueError, match="'x'; --what takes all or some of a, probes or some of p"):
        chosen("x", ("a",), ("p",))
    with pytest.raises(ValueError, match="can't evaluate 'probes'"):
        chosen("probes", ("a",))


# What is drawn


def test_prompts_in_batches_are_those_of_one_call(tiny, quick, monkeypatch):
    prompts, z_i = ["a red circle", "a star", "a moon"], F.normalize(torch.randn(3, 12), dim=1)
    whole = tiny.generate(prompts, [0, 1, 2], quick, None, "image32", z_i)
    monkeypatch.setattr(prompted, "BATCH", 2)
    parts = list(prompted.draw_prompts(tiny, prompts, quick, z_i, "image32"))
    assert [len(part.prompts) for part in parts] == [2, 1]
    pictures = torch.cat([part.image32 for part in parts])
    torch.testing.assert_close(pictures, whole.image32, rtol=0, atol=0.01)
    assert (pictures[0] - pictures[1]).abs().max() > 0.1


def test_evaluation_draws_the_bits_of_generate(tiny, quick):
    """In float32, as `draw` does. Prompt k has seed k, also without a given z_i."""
    prompts = ["a red circle", "a star", "a moon"]
    whole = tiny.generate(prompts, [0, 1, 2], quick)
    (made,) = prompted.draw_prompts(tiny, prompts, quick)
    assert not torch.is_autocast_enabled("cpu")
    for name in ("candidates", "image_embeddings", "drawings", "image32", "image64", "image128"):
        assert getattr(made, name).dtype == torch.float32
        assert torch.equal(getattr(made, name), getattr(whole, name)), name
    assert torch.equal(
        prompted.embed(tiny.clip, made.image32), tiny.clip.encode_image(made.image32)
    )


@pytest.mark.parametrize(
    ("questions", "low", "high"),
    [
        (("shape", "colour", "size", "background"), 0.95, 1.0),
        (("shape", "size", "background"), 0.0, 0.2),
    ],
)
def test_a_probe_reads_what_is_in_z_i_and_no_more(monkeypatch, questions, low, high):
    """Embeddings that say everything are read without a fault, those without colours by luck."""

    def embedded(clip, scenes):
        truth = answers_of(scenes)
        said = [F.one_hot(truth[q] + 1, 1 + probe.HEADS[q][1]).flatten(1) for q in questions]
        return 3.0 * torch.cat(said, dim=1), truth

    monkeypatch.setattr(probe, "_embed", embedded)
    assert low <= probe.scene_accuracy(None, scenes=4_000, steps=120) <= high


def test_reconstructions_depend_on_z_i_and_their_row_alone(tiny, quick, monkeypatch):
    z_i = F.normalize(torch.randn(3, 12), dim=1)
    whole = drawn.reconstruct(tiny, z_i, quick)
    assert whole.shape == (3, 3, 32, 32) and whole.abs().max() <= 1
    monkeypatch.setattr(drawn, "BATCH", 2)
    torch.testing.assert_close(drawn.reconstruct(tiny, z_i, quick), whole, rtol=0, atol=0.05)
    changed = drawn.reconstruct(tiny, torch.cat((z_i[:2], -z_i[2:])), quick)
    difference = (changed - whole).abs().flatten(1).amax(1)
    assert difference[:2].max() < 0.05 < 0.1 < difference[2]


# The three rows


def test_each_row_draws_from_its_own_condition(tiny, quick, monkeypatch):
    calls, right = [], {}

    def read_drawn(model, judge, prompts, sampling, image_embeddings=None):
        calls.append((model, prompts, image_embeddings))
        return answers_of(right["scenes"][: len(prompts)])

    asked = three_rows.asked

    def asking(name, n, seed):
        right["scenes"], prompts = asked(name, n, seed)
        return right["scenes"], prompts

    monkeypatch.setattr(three_rows, "read_drawn", read_drawn)
    monkeypatch.setattr(three_rows, "asked", asking)
    rows = three_rows.three_rows(tiny, None, 5, 3, quick)
    assert [r["name"] for r in rows] == [
        "caption only",
        "text embedding as image embedding",
        "prior",
        "prior less text embedding",
    ]
    assert [r["accuracy"] for r in rows[:3]] == [1, 1, 1] and rows[3]["value"] == 0
    (caption_only, *_), (text, prompts, z_t), (prior, _, none) = calls
    assert isinstance(caption_only.decoder, CaptionOnly)
    assert text is prior is tiny and none is None
    expected = tiny.clip.encode_text(tiny.tokenizer(prompts))
    torch.testing.assert_close(z_t, expected)


def three(text: int, prior: int, n: int = 500) -> list[dict]:
    rows = [
        row("rows", name, "seen", right, n)
        for name, right in ((three_rows.TEXT, text), (three_rows.PRIOR, prior))
    ]
    return [*rows, gap_row("rows", three_rows.GAP, rows[1], rows[0])]


def test_the_gate_of_the_three_rows():
    assert three_rows.prior_wins(three(text=200, prior=400))
    assert not three_rows.prior_wins(three(text=300, prior=310))  # within chance
    assert not three_rows.prior_wins(three(text=400, prior=200))


# PCA


def test_first_components_by_hand():
    pca = PCA(torch.zeros(3), torch.eye(3)[[1, 0, 2]], torch.tensor([3.0, 2, 1]))
    z_i = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.6, -0.8]])
    one, two, three = (pca_reconstruction.first_components(pca, z_i, k) for k in (1, 2, 3))
    torch.testing.assert_close(one, torch.tensor([[0.0, 1, 0], [0, 1, 0]]))
    torch.testing.assert_close(two, torch.tensor([[0.6, 0.8, 0.0], [0, 1, 0]]))
    torch.testing.assert_close(three, z_i)


def test_attributes_are_asked_of_the_objects_that_are_there():
    scenes = scenes_of(40, "one", "two")
    truth, objects = answers_of(scenes), int(scenes.count.sum())
    for right in pca_reconstruction.attributes_right(truth, truth).values():
        assert right.all() and len(right) in (objects, 40)
    seen = {name: answer.clone() for name, answer in truth.items()}
    first = scenes.place[:, 0]
    rows = torch.arange(40)
    seen["colour"][rows[:10], first[:10]] += 1  # ten objects of another colour,
    seen["size"][rows[10:15], first[10:15]] = 1 - seen["size"][rows[10:15], first[10:15]]
    seen["shape"][rows[20:24], first[20:24]] = len(SHAPES)  # four that are missing,
    seen["background"][30:37] += 1  # and an object too many is none of these
    seen["shape"][39, (scenes.place[39, 0] + 1) % 9] = 0
    right = pca_reconstruction.attributes_right(truth, seen)
    wrong = {name: int((~answers).sum()) for name, answers in right.items()}
    assert wrong == {"place": 4, "colour": 14, "shape": 4, "size": 9, "background": 7}


def test_when_an_attribute_is_there():
    assert pca_reconstruction.first_enough({1: 0.1, 2: 0.5, 4: 0.85, 8: 0.9}) == 4
    assert pca_reconstruction.first_enough({1: 0.9, 2: 0.5, 4: 0.9}) == 1


def pca_of(shares: dict[str, list[int]], n: int = 100) -> list[dict]:
    rows = [
        row("pca", f"{name}, {k} dimensions", "seen", right, n)
        for name, all_right in shares.items()
        for k, right in zip((1, 2, 4), all_right, strict=True)
    ]
    return rows + [
        value_row("pca", pca_reconstruction.UNTIL.format(name), "seen", 4 - i % 3, n)
        for i, name in enumerate(shares)
    ]


def test_the_gate_of_pca_and_the_order():
    good = {name: [20, 60, 95] for name in pca_reconstruction.ATTRIBUTES}
    assert pca_reconstruction.rises(pca_of(good))
    assert pca_reconstruction.rises(pca_of(good | {"size": [50, 47, 95]}))  # a fall within chance
    assert not pca_reconstruction.rises(pca_of(good | {"size": [50, 20, 95]}))
    assert not pca_reconstruction.rises(pca_of(good | {"size": [50, 52, 55]}))
    order = pca_reconstruction.order_of(pca_of(good))
    assert order == [("shape", 2), ("colour", 3), ("background", 3), ("place", 4), ("size", 4)]


def test_pca_on_a_tiny_model(tiny, judge, quick, monkeypatch):
    monkeypatch.setattr(pca_reconstruction, "FITTED", 40)
    monkeypatch.setattr(pca_reconstruction, "DIMENSIONS", (1, 64))
    rows = list(pca_reconstruction.pca_rows(tiny, judge, 3, 0, quick))
    names = [f"{a}, {k} dimensions" for k in (1, 12) for a in pca_reconstruction.ATTRIBUTES]
    assert [r["name"] for r in rows[:10]] == names  # 12 dimensions are all that E has
    assert len(rows) == 15 and {k for _, k in pca_reconstruction.order_of(rows)} <= {1, 12}


# The typographic attack


def test_signs_are_put_below_the_same_objects():
    conditions = typographic_attack.attacked(900, 5)
    before, control, attack = conditions.values()
    assert (before.word == -1).all() and (before.place[:, 0] == TOP).all()
    for scenes in (control, attack):
        assert torch.equal(scenes.shape, before.shape) and torch.equal(scenes.x, before.x)
        assert torch.equal(scenes.colour, before.colour) and len(scenes) == 900
    assert {WORDS[w] for w in control.word.tolist()} == {*WORDS} & {*COLOURS}
    pairs = [(SHAPES[s], WORDS[w]) for s, w in zip(attack.shape[:, 0], attack.word, strict=True)]
    words = {*WORDS} & {*SHAPES}
    assert {*pairs} == {(s, w) for s, w in product(SHAPES, words) if s != w}
    meant = [SHAPES[typographic_attack.MEANING[w]] for w in attack.word]
    assert meant == [word for _, word in pairs]


def test_clip_is_asked_for_the_shape_with_the_true_colour():
    labels = []

    def tokenizer(texts):
        labels.extend(texts)
        return torch.arange(len(texts))

    clip = types.SimpleNamespace(encode_text=lambda tokens: torch.eye(64)[tokens])
    dalle2 = types.SimpleNamespace(clip=clip, tokenizer=tokenizer, device=CPU)
    picture = torch.zeros(2, 64)
    picture[0, 8 * COLOURS.index("blue") + SHAPES.index("star")] = 0.9
    picture[0, 8 * COLOURS.index("red") + SHAPES.index("moon")] = 1.0  # of another colour
    picture[1, 8 * COLOURS.index("orange") + SHAPES.index("ring")] = 0.1
    colour = torch.tensor([COLOURS.index("blue"), COLOURS.index("orange")])
    found = typographic_attack.zero_shot_shape(dalle2, picture, colour)
    assert [SHAPES[i] for i in found] == ["star", "ring"]
    assert "a picture of an orange ring" in labels and "a picture of a blue star" in labels


def test_whether_the_attack_flips():
    def rows(control: int, attack: int) -> list[dict]:
        name = typographic_attack.CLIP_SHAPE
        pairs = ((typographic_attack.CONTROL, control), (typographic_attack.ATTACK, attack))
        return [row("attack", name.format(c), "seen", right, 200) for c, right in pairs]

    assert typographic_attack.flips(rows(190, 20))
    assert not typographic_attack.flips(rows(190, 185)) and not typographic_attack.flips(
        rows(9, 99)
    )


def test_the_attack_on_a_tiny_model(tiny, judge, quick):
    rows = list(typographic_attack.attack_rows(tiny, judge, 3, 0, quick))
    assert [r["name"].split(",")[0] for r in rows] == [
        "CLIP names the shape",
        "CLIP names the shape",
        "redrawn the shape",
        "redrawn the sign",
        "CLIP names the shape",
        "CLIP names the word",
        "redrawn the shape",
        "redrawn the word's shape",
        "redrawn the sign",
    ]
    assert all(r["n"] == 3 for r in rows)


# Binding


@pytest.mark.parametrize("split", binding.SPLITS)
def test_pairs_differ_in_who_wears_which_colour(split):
    pair = binding.swap_pairs(split, 60, 2)
    for captions in zip(*binding.captions_of(pair, 7), strict=True):
        one, other = (text.replace("an orange", "a orange").split() for text in captions)
        assert one != other and sorted(one) == sorted(other)
    asked, other = pair
    assert torch.equal(asked.shape, other.shape) and torch.equal(asked.x, other.x)
    assert torch.equal(asked.colour[:, :2].flip(1), other.colour[:, :2])
    assert (asked.colour[:, 0] != asked.colour[:, 1]).all() and (asked.count == 2).all()
    assert holds_held_out_pair(asked).all() == (split == "pairs")
    if split == "seen":
        assert not holds_held_out_pair(concatenate([*pair])).any()
        assert not holds_held_out_combination(concatenate([*pair])).any()
    with pytest.raises(ValueError, match="no swaps in the split 'train'; use seen or pairs"):
        binding.swap_pairs("train", 1, 0)


def test_verdicts_on_what_a_judge_reads():
    asked, other = binding.swap_pairs("seen", 50, 3)
    assert binding.verdicts(asked, other, answers_of(asked)) == ["right"] * 50
    assert binding.verdicts(asked, other, answers_of(other)) == ["swapped"] * 50
    resized = replace(asked, size=1 - asked.size.clamp(min=0), background=3 - asked.background)
    assert binding.verdicts(asked, other, answers_of(resized)) == ["right"] * 50  # unsaid
    one = replace(asked, colour=asked.colour[:, :1].expand(-1, 3))  # both of one colour
    assert binding.verdicts(asked, other, answers_of(one)) == ["other"] * 50
    shape = torch.where(asked.shape >= 0, (asked.shape + 1) % len(SHAPES), -1)
    reshaped = answers_of(replace(asked, shape=shape))
    assert binding.verdicts(asked, other, reshaped) == ["other"] * 50


def test_drawn_captions_are_scenes_and_then_their_swaps(tiny, monkeypatch):
    """Five prompts of three pairs; the reader sees the first scenes whatever is asked."""
    pair = binding.swap_pairs("seen", 3, 4)
    monkeypatch.setattr(
        binding,
        "read_drawn",
        lambda model, judge, prompts, sampling: answers_of(concatenate([pair[0], pair[0]])[:5]),
    )
    rows = binding.drawn_rows(tiny, None, "unCLIP", 5, 4)
    assert [r["accuracy"] for r in rows] == [0.6, 0.4, 0]
    assert [r["name"] for r in rows] == [
        "unCLIP: all attributes right",
        "unCLIP: colours swapped",
        "unCLIP: something else wrong",
    ]


def test_binding_on_a_tiny_model(tiny, twin, judge, quick):
    rows = list(binding.binding_rows(tiny, judge, twin, 4, 0, quick))
    assert [r["split"] for r in rows] == ["seen"] * 3 + ["pairs"] * 3 + ["seen"] * 8
    gaps = [r for r in rows if "value" in r]
    assert [r["name"] for r in gaps] == [
        "unCLIP less GLIDE, all right",
        "unCLIP less GLIDE, colours swapped",
    ]
    assert gaps[0]["value"] == rows[6]["accuracy"] - rows[9]["accuracy"]


def test_the_gate_of_binding():
    def gaps(n: int) -> list[dict]:
        shares = row("binding", "a", "seen", n // 2, n), row("binding", "b", "seen", n // 3, n)
        return [gap_row("binding", binding.GAP.format(name), *shares) for name in ("x", "y")]

    assert binding.is_measured(gaps(500))
    assert not binding.is_measured(gaps(50))  # too wide to tell
    assert not binding.is_measured(gaps(500)[:1]) and not binding.is_measured([])


# Written words


@pytest.mark.parametrize(
    ("word", "written", "count"),
    [
        ("star", "star", 0),
        ("star", "sta", 1),
        ("star", "stars", 1),
        ("star", "stir", 1),
        ("star", "", 4),
        ("ring", "string", 2),
        ("moon", "noom", 2),
        ("red", "blue", 4),
    ],
)
def test_edits(word, written, count):
    assert written_words.edits(word, written) == written_words.edits(written, word) == count


def test_errors_are_counted_a_letter():
    errors = written_words.character_errors(["star", "red", "ring"], ["star", "rod", ""])
    torch.testing.assert_close(errors, torch.tensor([0, 1 / 3, 1]))


def test_words_on_a_tiny_model(tiny, twin, judge, quick, monkeypatch):
    rows = list(written_words.written_rows(tiny, judge, twin, 3, 0, quick))
    assert [r["name"] for r in rows] == [
        f"{what}, {label}"
        for label in ("real pictures", "unCLIP", "GLIDE")
        for what in ("letters wrong", "words right")
    ]
    # A judge that can read finds no fault in real pictures.
    scenes, _ = written_words.asked("words", 3, 0)
    monkeypatch.setattr(written_words, "read", lambda judge, images: answers_of(scenes))
    rows = list(written_words.written_rows(tiny, judge, twin, 3, 0, quick))
    assert rows[0]["value"] == 0 and rows[1]["accuracy"] == 1
    assert rows[2]["value"] > 0


# Guidance


def test_diversity_by_hand():
    x, y = torch.eye(2)
    z = torch.stack([x, x, x, x, x, x, y, y, x, -x, y, -y])
    # Of six pairs: all alike; two alike, four at right angles; four at right angles, two opposed.
    expected = torch.tensor([0, 4 / 6, 1 + 2 / 6])
    torch.testing.assert_close(guidance_sweep.diversity(z, 4), expected)


def test_short_prompts_say_shapes_and_colours_only():
    scenes, prompts = guidance_sweep.short_prompts(3, seeded(1))
    assert len(scenes) == len(prompts) == 12 and len({*prompts}) == 3
    assert prompts[:4] == [prompts[0]] * 4 and torch.equal(scenes.shape[0], scenes.shape[3])
    unsaid = ("small", "large", "background", *PLACES, "above", "left", "below")
    assert not any(word in prompt.split() for prompt in prompts for word in unsaid)
    others = guidance_sweep.others_of(scenes, seeded(2))
    assert follows(scenes, answers_of(others)).all()
    assert (
        len({*map(tuple, others.place[:, :2].tolist())}) > 1
        and len({*others.background.tolist()}) > 1
    )


def test_guidance_on_a_tiny_model(tiny, twin, judge, quick, monkeypatch):
    given = []
    generate = tiny.generate

    def listening(prompts, seeds, sampling, stop_after="image128", image_embeddings=None):
        given.append((sampling.decoder_guidance, stop_after, image_embeddings))
        return generate(
            prompts, seeds, sampling, stop_after=stop_after, image_embeddings=image_embeddings
        )

    monkeypatch.setattr(tiny, "generate", listening)
    rows = list(guidance_sweep.guidance_rows(tiny, judge, twin, 7, 0, quick, scales=(1.0, 3.0)))
    assert rows[0]["name"] == "real pictures: diversity" and rows[0]["value"] > 0
    assert [r["name"] for r in rows[1:]] == [
        f"{label}, guidance {scale}: {what}"
        for label in ("unCLIP", "GLIDE")
        for scale in (1, 3)
        for what in ("followed", "diversity", "Fréchet distance", "precision", "recall")
    ]
    assert {r["n"] for r in rows} == {8, 2}  # pictures; prompts
    first, *sweep = given
    assert first[1:] == ("image_embeddings", None)
    assert [(scale, stop) for scale, stop, _ in sweep] == [(1, "image32"), (3, "image32")]
    assert torch.equal(sweep[0][2], sweep[1][2])  # z_i is frozen, and each picture has its own
    assert (sweep[0][2][0] - sweep[0][2][1]).abs().max() > 1e-3
    left = guidance_sweep.diversity_left(rows, "GLIDE", (1.0, 3.0))
    assert left == pytest.approx(rows[17]["value"] / rows[12]["value"])


def test_who_stays_diverse():
    def rows(unclip: float, glide: float) -> list[dict]:
        return [
            value_row("guidance", guidance_sweep.DIVERSITY.format(label, scale), "seen", value, 9)
            for label, left in (("unCLIP", unclip), ("GLIDE", glide))
            for scale, value in ((1.0, 0.2), (4.0, 0.2 * left))
        ]

    assert guidance_sweep.unclip_stays_diverse(rows(0.9, 0.5))
    assert not guidance_sweep.unclip_stays_diverse(rows(0.5, 0.9))
    alike = [r | {"value": 0.0} for r in rows(0.5, 0.9)]
    assert guidance_sweep.diversity_left(alike, "GLIDE") == 0


# From the command line


@pytest.fixture
def weights(tiny, judge, tmp_path):
    folder = save_tiny(tiny, tmp_path / "weights")
    save_model(folder / "judge", "judge", judge)
    return folder


def test_evaluate_probes(weights, twin, quick, tmp_path, monkeypatch, capsys, bars):
    save_model(weights / "glide", "glide", twin.decoder)
    monkeypatch.setattr(pca_reconstruction, "FITTED", 40)
    monkeypatch.setattr(pca_reconstruction, "DIMENSIONS", (2,))
    for probes in (probing.ALONE, probing.COMPARED):
        for name, function in probes.items():
            monkeypatch.setitem(probes, name, partial(function, sampling=quick))
    sweep = partial(probing.COMPARED["guidance"], scales=(1.0, 4.0))
    monkeypatch.setitem(probing.COMPARED, "guidance", sweep)
    command = ["evaluate", "--weights", str(weights), "--what", "probes", "-n", "4"]
    assert main([*command, "--device", "cpu", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert list(dict.fromkeys(r["what"] for r in rows)) == list(probing.PROBES)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(rows) + 2
    assert {"drawing 4 image embeddings", "drawing GLIDE, guidance 4", "imagining"} < set(
        bars.full()
    )
    for r in rows:
        value = r["accuracy"] if "accuracy" in r else r["value"]
        assert r["low"] is None or r["low"] - 1e-9 <= value <= r["high"] + 1e-9


def test_without_a_twin_comparisons_say_how_to_get_it(weights, capsys):
    command = ["evaluate", "--weights", str(weights), "--device", "cpu", "-n", "1"]
    assert main([*command, "--what", "rows,binding"]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and f"`minidalle2 train glide --out {weights}`" in told.err
    assert told.out == ""  # before anything is measured
    assert main([*command, "--what", "beauty"]) == 2
    assert "probes or some of rows,pca,attack,binding,words,guidance" in capsys.readouterr().err
