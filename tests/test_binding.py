"""The binding benchmark of critters: swap test, judge, verdicts on drawn prompts."""

import json
import random
from dataclasses import replace

import pytest
import torch
from tiny_model import save_tiny

from minidalle2.cli import main
from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2
from minidalle2.decoder import Decoder
from minidalle2.evaluation import drawn
from minidalle2.evaluation.critters import binding, judge, report
from minidalle2.evaluation.critters.binding import (
    captions_of, draw_scenes, prompt_rows, swap_pairs, verdict,
)  # fmt: skip
from minidalle2.evaluation.critters.judge import (
    ANSWERS, NOT_ASKED, Judge, JudgeConfig, answers_of, judge_data, judge_loss, own_scenes, read,
    scenes_of,
)  # fmt: skip
from minidalle2.evaluation.swaps import swap_scores
from minidalle2.prior import Prior
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.checkpoints import save_model
from minidalle2.training.stages import train_stage
from minidalle2.upsampler import Upsampler
from minidalle2.worlds.critters.captions import describe
from minidalle2.worlds.critters.scenes import (
    COLOURS, NO_BLOOM, Critter, Sprout, held_out_pairs, sample, swapped,
)  # fmt: skip
from minidalle2.worlds.critters.world import Critters

CRITTER = Critter("round", "red", "horns", "blue", "happy", "smile", "white")
TULIP = Sprout("tulip", "red", "pot", "blue", "happy", "smile", "white")
CACTUS = Sprout("cactus", NO_BLOOM, "pot", "red", "happy", "smile", "white")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random(0)
    return [sample(rng, held_out=i % 2 == 1) for i in range(300)]


@pytest.fixture(scope="module")
def tiny(configs, scenes):
    """A random DALL·E 2 that reads captions of critters."""
    rng = random.Random(0)
    tokenizer = Tokenizer.train([describe(scene, rng, True) for scene in scenes])
    text = {"vocab_size": tokenizer.vocab_size, "context_length": tokenizer.context_length}
    return DALLE2(
        tokenizer,
        CLIP(replace(configs.clip, **text)),
        Prior(replace(configs.prior, **text)),
        Decoder(replace(configs.decoder, **text)),
        Upsampler(configs.upsampler64),
        Upsampler(configs.upsampler128),
    )


@pytest.mark.parametrize(
    ("similarity", "scores"),
    [
        ([[2, 1], [1, 2]], (1, 1, 1)),
        ([[1, 2], [2, 1]], (0, 0, 0)),
        ([[3, 2], [1, 0]], (0.5, 0.5, 0)),  # the first picture and caption are liked by all
        ([[5, 4], [1, 2]], (1, 0.5, 0)),  # each picture finds its caption; one caption errs
        ([[5, 1], [4, 2]], (0.5, 1, 0)),  # the other way round
        ([[1, 1], [1, 1]], (0, 0, 0)),  # a tie tells nothing apart
    ],
)
def test_swap_scores_of_one_pair(similarity, scores):
    assert swap_scores(torch.tensor([similarity]).float()) == scores


def test_swap_scores_of_many_pairs():
    right, wrong = torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([[5.0, 4], [1, 2]])
    assert swap_scores(torch.stack([right, right, right, wrong])) == (1, 0.875, 0.75)
    guesses = torch.rand(40_000, 2, 2, generator=torch.Generator().manual_seed(0))
    assert swap_scores(guesses) == pytest.approx((1 / 2, 1 / 2, 1 / 6), abs=0.01)


@pytest.mark.parametrize("split", ["seen", "pairs"])
def test_pairs_of_a_split_are_swaps_that_training_lacks(split):
    pairs = swap_pairs(split, 60, seed=0)
    assert len(pairs) == 60 and pairs == swap_pairs(split, 60, seed=0)
    assert pairs != swap_pairs(split, 60, seed=1)
    for scene, other in pairs:
        assert swapped(scene) == other and not {scene, other} & binding._training_scenes()
        colours = [b for _, b in held_out_pairs(scene) if b in COLOURS]
        assert len(colours) == (split == "pairs")
        assert split == "pairs" or not held_out_pairs(scene) + held_out_pairs(other)
    assert {type(scene) for scene, _ in pairs} == {Critter, Sprout}


def test_training_has_no_swap_test():
    with pytest.raises(ValueError, match="no swaps in the split 'train'; seen and pairs have"):
        swap_pairs("train", 1, seed=0)


def test_captions_of_a_pair_differ_in_the_order_of_two_colours():
    pairs = swap_pairs("seen", 40, seed=0)
    for (scene, _), captions in zip(pairs, captions_of(pairs, seed=0), strict=True):
        a, b = (caption.replace(" an ", " a ").split() for caption in captions)
        changed = {(x, y) for x, y in zip(a, b, strict=True) if x.strip(",") != y.strip(",")}
        one, two = binding._colours(scene)
        assert changed - {("an", "a"), ("a", "an")} == {(one, two), (two, one)}


def test_truth_in_the_judges_terms():
    truth = answers_of([CRITTER, TULIP, CACTUS])
    assert set(truth) == set(ANSWERS)
    assert truth["kind"].tolist() == [0, 1, 1]
    assert truth["colour"].tolist() == [COLOURS.index("red"), NOT_ASKED, NOT_ASKED]
    assert truth["top_colour"].tolist() == [COLOURS.index("blue"), NOT_ASKED, NOT_ASKED]
    assert [ANSWERS["bloom"][i] for i in truth["bloom"][1:]] == ["red", NO_BLOOM]
    assert truth["bloom"][0] == NOT_ASKED and (truth["eyes"] >= 0).all()


def test_scenes_come_back_from_their_answers(scenes):
    """Whatever the judge says of the other kind."""
    answers = {name: answer.clamp(min=0) for name, answer in answers_of(scenes).items()}
    assert scenes_of(answers) == scenes


def test_the_loss_asks_only_what_applies():
    class Sure(torch.nn.Linear):
        """Certain of TULIP, and of nonsense about all that a sprout has not."""

        def __init__(self):
            super().__init__(1, 1)
            self.answers = answers_of([TULIP])

        def forward(self, images):
            return {
                name: 50.0 * torch.eye(len(ANSWERS[name]))[self.answers[name].clamp(min=0)]
                for name in ANSWERS
            }

    images, none = torch.zeros(1, 3, 64, 64), torch.Generator()
    assert judge_loss(Sure(), (images, answers_of([TULIP])), none) < 1e-6
    wrong = replace(TULIP, bloom="pink", eyes="angry")
    assert judge_loss(Sure(), (images, answers_of([wrong])), none).item() == pytest.approx(100)
    assert judge_loss(Sure(), (images, answers_of([CRITTER])), none).isfinite()


def test_a_judge_can_tell_a_swap():
    """Thirty steps on six pictures, read back at every size that is drawn."""
    shown = [CRITTER, swapped(CRITTER), TULIP, swapped(TULIP), CACTUS, replace(CRITTER, top="fin")]
    images = draw_scenes(shown, [0.0] * 6, 128)
    assert images.shape == (6, 3, 128, 128) and images.abs().max() <= 1
    torch.manual_seed(0)
    model = Judge(JudgeConfig(width=8))
    assert all(out.shape == (6, len(ANSWERS[k])) for k, out in model(images[..., ::2, ::2]).items())
    batch = torch.nn.functional.avg_pool2d(images, 2), answers_of(shown)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = judge_loss(model, batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert read(model.eval(), images) == read(model, batch[0]) == shown
    assert len(read(model, images[..., ::4, ::4])) == 6


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (TULIP, "right"),
        (replace(TULIP, bloom="blue", pot_colour="red"), "swapped"),
        (replace(TULIP, bloom="blue", pot_colour="red", mouth="frown"), "swapped"),
        (replace(TULIP, bloom="blue"), "other"),  # both parts blue: no swap
        (replace(TULIP, eyes="angry"), "other"),
        (replace(TULIP, plant="bush", bloom=NO_BLOOM), "other"),
        (Critter("round", "red", "horns", "blue", "happy", "smile", "white"), "other"),
        (Critter("round", "blue", "horns", "red", "happy", "smile", "white"), "other"),
    ],
)
def test_verdicts_on_a_red_tulip_in_a_blue_pot(shown, expected):
    assert verdict(TULIP, shown) == expected


@pytest.mark.parametrize("swaps", [0, 1, 2, 5])
def test_prompt_rows_count_verdicts(tiny, few_steps, monkeypatch, swaps):
    """Five prompts: of three pairs, the last of which lacks its swap."""
    asked = [scene for pair in swap_pairs("pairs", 3, seed=7) for scene in pair][:5]
    shown = [swapped(scene) if i < swaps else scene for i, scene in enumerate(asked)]
    monkeypatch.setattr(drawn, "BATCH", 2)
    given, reads = [], iter([shown[:2], shown[2:4], shown[4:]])
    monkeypatch.setattr(binding, "read", lambda judge, images: next(reads))
    generate = tiny.generate

    def listening(prompts, seeds, sampling, **others):
        given.extend(zip(prompts, seeds, strict=True))
        return generate(prompts, seeds, sampling, **others)

    monkeypatch.setattr(tiny, "generate", listening)
    rows = prompt_rows(tiny, None, "pairs", 5, seed=7, sampling=few_steps)
    assert [row["accuracy"] for row in rows] == [1 - swaps / 5, swaps / 5, 0]
    assert [row["name"] for row in rows] == list(binding.VERDICTS.values())
    assert [seed for _, seed in given] == list(range(5))
    for (prompt, _), scene in zip(given, asked, strict=True):
        assert all(colour in prompt for colour in binding._colours(scene))
        assert f"{scene.background} background" in prompt


def test_the_judge_trains_on_pictures_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "PICTURES", 8)
    judge._own_pictures.cache_clear()
    world = Critters(tmp_path / "cache", groups=1, others=1)
    try:
        images, truth = judge_data(32, torch.Generator().manual_seed(0))
        assert images.shape == (32, 3, 64, 64) and images.abs().max() <= 1
        own = own_scenes()[0]
        assert {*scenes_of({k: v.clamp(min=0) for k, v in truth.items()})} <= {*own}
        assert [bool(held_out_pairs(scene)) for scene in own] == [False, True] * 4
        again, _ = judge_data(32, torch.Generator().manual_seed(0))
        assert torch.equal(images, again)
        steps = list(train_stage("judge", world, tmp_path, "smoke", CPU))
    finally:
        judge._own_pictures.cache_clear()
    assert len(steps) == 4 and (tmp_path / "judge" / "model.safetensors").is_file()


def test_evaluate_from_the_command_line(tiny, few_steps, tmp_path, monkeypatch, capsys):
    weights = save_tiny(tiny, tmp_path / "runs")
    save_model(weights / "judge", "judge", Judge(JudgeConfig(width=8)))
    monkeypatch.setattr(report, "prompt_rows", lambda *args: prompt_rows(*args, sampling=few_steps))
    command = ["evaluate", "--world", "critters", "--weights", str(weights), "-n", "2"]
    assert main([*command, "--device", "cpu", "--json", str(tmp_path / "results.json")]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["what"], row["split"]) for row in rows] == [
        *(("judge", split) for split in ("seen", "pairs")),
        *(("clip", split) for split in ("seen",) * 3 + ("pairs",) * 3),
        *(("prompts", split) for split in ("seen",) * 3 + ("pairs",) * 3),
    ]
    for row in rows:
        assert set(row) == {"what", "name", "split", "n", "accuracy", "low", "high"}
        assert row["n"] == 2 and 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    for k in (8, 11):
        assert sum(row["accuracy"] for row in rows[k : k + 3]) == pytest.approx(1)
    said = capsys.readouterr().out
    assert "chance 50 %" in said and "chance 16.7 %" in said


def test_the_swap_test_needs_clip_alone(tiny, tmp_path):
    save_model(tmp_path / "clip", "clip", tiny.clip)
    tiny.tokenizer.save(tmp_path / "tokenizer.json")
    rows = list(report.evaluate(tmp_path, CPU, ["clip"], 1, 0))
    assert len(rows) == 6 and all(row["accuracy"] in (0, 0.5, 1) for row in rows)


def test_what_is_missing_is_said_with_how_to_get_it(tiny, tmp_path, capsys, monkeypatch):
    def refused(*options: str) -> str:
        assert main(["evaluate", "--world", "critters", *options]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "Traceback" not in said
        return said

    assert "train all --world critters" in refused()
    empty = str(tmp_path / "empty")
    said = refused("--weights", empty)
    assert f"`minidalle2 train all --world critters --out {empty}`" in said
    assert f"`minidalle2 train judge --world critters --out {empty}`" in said
    weights = save_tiny(tiny, tmp_path / "runs")
    said = refused("--weights", str(weights), "--what", "prompts")
    assert "no judge" in said and f"train judge --world critters --out {weights}" in said
    assert "judge,clip,prompts" in refused("--weights", str(weights), "--what", "probe")
    monkeypatch.setitem(__import__("sys").modules, "dicebear", None)
    assert "not installed" in refused("--weights", str(weights))
