"""The emoji's judge, and what is measured with it and with CLIP."""

import json

import pytest
import torch
import torch.nn.functional as F
from tiny_model import save_tiny

from minidalle2.commands.cli import main
from minidalle2.manipulations.inversion import Walk
from minidalle2.storage.checkpoints import save_model
from minidalle2.storage.pictures import to_uint8
from minidalle2.training.stages import train_stage
from minidalle2.worlds.catalogue import load_judge
from minidalle2.worlds.emoji.backgrounds import compose, sample_backgrounds
from minidalle2.worlds.emoji.drawings import draw
from minidalle2.worlds.emoji.evaluation import copying, manipulations, natural, report
from minidalle2.worlds.emoji.evaluation.copying import NEAR, nearest
from minidalle2.worlds.emoji.evaluation.naming import answer_ranks, embed_texts
from minidalle2.worlds.emoji.evaluation.natural import (
    Natural,
    accepted_ranks,
    natural_prompts,
    natural_rows,
    read_backgrounds,
)
from minidalle2.worlds.emoji.evaluation.prompts import (
    LANGUAGES,
    Drawn,
    judged,
    prompt_of,
    sample_rows,
)
from minidalle2.worlds.emoji.judge import (
    SIZE,
    Judge,
    JudgeConfig,
    judge_data,
    judge_loss,
    only_core,
    read,
)
from minidalle2.worlds.emoji.labels import (
    are_unlike,
    core_members,
    core_names,
    known_names,
    places_in,
    ranks,
    scored,
    styles_of,
)
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.splits import members, split_of
from minidalle2.worlds.emoji.words import BACKGROUNDS, STYLES, WHITE
from minidalle2.worlds.emoji.world import Emoji
from minidalle2.worlds.emoji.worn import erased, moved, worn

CPU = torch.device("cpu")
TINY = JudgeConfig(widths=(8, 8, 8, 8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_judge_trains_on_no_held_out_drawing(monkeypatch):
    """In 7,292 pictures, all of `train`, once each; and the labels are those of the drawings."""
    seen = []

    def record(rows, size):
        seen.append(rows)
        return torch.zeros(len(rows), 4, 8, 8)

    monkeypatch.setattr("minidalle2.worlds.emoji.judge.draw", record)
    _, names, styles = judge_data(len(members("train")), generator())
    rows = seen[0].tolist()
    assert len(rows) == 7_292 == len(set(rows))
    assert {split_of(drawings()[row]) for row in rows} == {"train"}
    for row, name, style in zip(rows, names.tolist(), styles.tolist(), strict=True):
        assert drawings()[row] == (known_names()[name], STYLES[style])


def test_names_it_knows_are_in_a_fixed_order():
    keys = [name.key for name in known_names()]
    assert len(keys) == 1_343 and len(core_names()) == 1_200
    assert (places_in(known_names(), members("names")) == -1).all()
    assert (places_in(known_names(), members("pairs")) >= 0).all()
    assert (places_in(core_names(), members("names")) >= 0).all()
    assert styles_of(torch.tensor([0, len(drawings()) - 1])).tolist() == [0, len(STYLES) - 1]


def test_it_is_small_enough_to_ship():
    parameters = sum(p.numel() for p in Judge(JudgeConfig()).parameters())
    assert parameters < 3e6  # a byte each


def test_moved_keeps_most_of_a_drawing_and_turns_it():
    drawn = torch.zeros(64, 4, 32, 32)
    drawn[:, :, 10:22, 10:22] = 255.0
    new = moved(drawn, generator())
    mass = new.sum((1, 2, 3)) / drawn.sum((1, 2, 3))
    assert mass.min() > 0.5 and mass.max() < 1.05  # 0.75 squared is 0.56
    same = (new - drawn).abs().amax((1, 2, 3)) < 1
    assert 0.08 < same.float().mean() < 0.4
    corners = new[~same][:, 0, 10:22, 10:22].amin((1, 2))
    assert (corners < 255).float().mean() > 0.5


def test_worn_pictures_are_near_their_originals_but_for_a_patch():
    images = torch.rand(64, 3, 16, 16, generator=generator(1)) * 2 - 1
    off = (worn(images, generator()) - images).abs().flatten(1).mean(1)
    assert off.min() > 0.02 and off.max() < 0.7
    patches = (erased(images, generator()) != images).any(1).flatten(1).float().mean(1)
    assert 0.1 < (patches > 0).float().mean() < 0.5 and patches.max() <= 0.25


def test_ranks_are_exact_and_ties_count_against():
    scores = torch.tensor([[3.0, 1, 2, 0], [3, 1, 2, 0], [1, 1, 1, 1]])
    assert ranks(scores, torch.tensor([0, 3, 2])).tolist() == [0, 3, 3]


def test_only_core_names_compete():
    logits = torch.arange(float(len(known_names())))[None]
    logits = only_core(logits.clone())
    tiers = [name.tier for name in known_names()]
    assert sum(logits[0].isinf().tolist()) == sum(tier != "core" for tier in tiers) > 100
    core = [i for i, tier in enumerate(tiers) if tier == "core"]
    assert ranks(logits, torch.tensor([core[-1]])).item() == 0
    assert ranks(logits, torch.tensor([core[-6]])).item() == 5


def test_read_takes_any_size_and_shrinks_by_averages():
    judge = Judge(TINY).eval()
    small = torch.rand(2, 3, SIZE, SIZE, generator=generator()) * 2 - 1
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for a, b in zip(read(judge, small), read(judge, large), strict=True):
        torch.testing.assert_close(a, b)
    assert read(judge, small[..., ::2, ::2])[1].shape == (2, len(STYLES))


def test_loss_is_that_of_both_questions():
    judge = Judge(TINY)
    for head in (judge.name[-1], judge.style[-3]):
        torch.nn.init.zeros_(head.weight), torch.nn.init.zeros_(head.bias)
    batch = (torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0, 5]), torch.tensor([1, 2]))
    expected = torch.tensor([len(known_names()), len(STYLES)]).float().log().sum()
    torch.testing.assert_close(judge_loss(judge, batch, generator()), expected)


def test_the_judge_trains_and_loads(tmp_path):
    steps = list(train_stage("judge", Emoji(), tmp_path, "smoke", CPU))
    assert steps[-1].step == 4 and 5 < steps[0].loss < 15
    judge = load_judge("emoji", tmp_path, CPU)
    assert judge.config == JudgeConfig()


def test_a_judge_of_another_world_is_refused(tmp_path):
    save_model(tmp_path / "judge", "judge", Judge(TINY))
    with pytest.raises(RuntimeError, match="unknown key 'names'"):
        load_judge("shapes", tmp_path, CPU)


def test_scores_are_counted_exactly_and_pairs_also_by_the_four_hands():
    rows = core_members("pairs")[torch.tensor([0, 1, 400, 407])]
    assert are_unlike(rows).tolist() == [True, True, False, False]
    name, style = torch.tensor([0, 4, 5, 0]), torch.tensor([0, 1, 0, 0])
    pairs = scored("w", "a", "pairs", rows, name, style)
    found = {row["name"]: (row["accuracy"], row["n"]) for row in pairs}
    assert found == {
        "name top-1, a": (0.5, 4),
        "name top-5, a": (0.75, 4),
        "style right, a": (0.75, 4),
        "name top-1, a, four hands": (0.5, 2),
        "name top-5, a, four hands": (1.0, 2),
        "style right, a, four hands": (0.5, 2),
    }
    seen = list(scored("w", "a", "seen", rows, name, style))
    assert len(seen) == 3 and set(seen[0]) == {
        "what",
        "name",
        "split",
        "n",
        "accuracy",
        "low",
        "high",
    }


def test_the_answer_is_that_of_the_nearest_text():
    z_i = F.normalize(torch.randn(20, 9, generator=generator()), dim=-1)
    z_t = F.normalize(torch.randn(5, 3, 9, generator=generator(1)), dim=-1)
    for picture in z_i:
        best = max((float(picture @ z_t[n, s]), n, s) for n in range(5) for s in range(3))
        right = (torch.tensor([best[1]]), torch.tensor([best[2]]))
        name, style = answer_ranks(picture[None], z_t, *right)
        assert name.item() == 0 and style.item() == 0
        least = min((max(float(picture @ z_t[n, s]) for s in range(3)), n) for n in range(5))
        assert answer_ranks(picture[None], z_t, torch.tensor([least[1]]), right[1])[0].item() == 4


def test_names_and_styles_are_both_found():
    """Texts as sums of a direction of their name and one of their style: both are found."""
    names, styles = torch.eye(9)[:5], torch.eye(9)[5:8]
    z_t = F.normalize(names[:, None] + styles, dim=-1)  # (5, 3, 9)
    name, style = torch.tensor([0, 2, 4, 1]), torch.tensor([2, 0, 1, 1])
    z_i = F.normalize(names[name] + 0.5 * styles[style], dim=-1)
    for got in answer_ranks(z_i, z_t, name, style):
        assert got.tolist() == [0, 0, 0, 0]
    swapped, _ = answer_ranks(z_i + 2 * names[3] + names[1], z_t, name, style)
    assert swapped.tolist() == [2, 2, 2, 1]


def test_texts_are_in_the_order_of_names_and_styles(clip, tokenizer):
    z_t = embed_texts(clip, tokenizer, "English")
    assert z_t.shape == (1_200, 6, 12)
    text = prompt_of(core_names()[7], STYLES[2], "English")
    expected = clip.encode_text(tokenizer([text]))[0]
    torch.testing.assert_close(z_t[7, 2], expected, atol=0.02, rtol=0.02)


def test_prompts_are_sampled_without_replacement_and_say_name_and_style():
    rows = sample_rows(core_members("pairs"), 500, seed=3)
    assert len(rows) == 408 == len(set(rows.tolist()))
    seen = core_members("seen")
    assert sample_rows(seen, 20, 3).tolist() == sample_rows(seen, 20, 3).tolist()
    assert sample_rows(seen, 20, 3).tolist() != sample_rows(seen, 20, 4).tolist()
    crab = next(name for name in core_names() if name.name == "crab")
    assert prompt_of(crab, "noto", "English") == "a crab in noto style"
    assert prompt_of(crab, "noto", "Chinese") == "noto风格的蟹"


def test_copies_are_found_also_when_shifted():
    training = torch.ones(3, 3, 32, 32)
    for i, (y, x) in enumerate(((8, 8), (8, 18), (18, 8))):
        training[i, i, y : y + 7, x : x + 7] = -1
    shifted = training[1].roll((-2, 1), (1, 2))
    far = training[2].roll((-4, 0), (1, 2))
    new = torch.ones(3, 32, 32)
    new[:, 3:29, 3:29] = 0
    distance, which = nearest(torch.stack((training[0], shifted, far, new)), training)
    assert which[:3].tolist() == [0, 1, 2]
    assert distance[:2].max() < 1e-3
    two_rows = (2 * 2 * 7 / (3 * 32 * 32)) ** 0.5  # what two pixels' shift leaves of four
    assert distance[2].item() == pytest.approx(two_rows, abs=1e-3)
    assert distance[3] > NEAR


def test_near_copies_are_counted(monkeypatch):
    rows = core_members("pairs")[torch.tensor([0, 1, 400, 407])]
    drawn = Drawn(rows, ["p"] * 4, *(torch.zeros(4, 3, s, s, dtype=torch.uint8) for s in (128, 32)))
    distances = iter((torch.tensor([0.0, NEAR, 0.05, 0.3]), torch.tensor([0.3, 0.3, 0.0, 0.3])))
    monkeypatch.setattr(copying, "nearest_training", lambda images: (next(distances), None))
    monkeypatch.setattr(copying, "real_pictures", lambda rows, size: None)
    found = [(r["name"], r["accuracy"], r["n"]) for r in copying.copying_rows(drawn)]
    assert found == [
        ("near-copies, drawn pictures", 0.5, 4),
        ("near-copies, drawn pictures, four hands", 0.5, 2),
        ("near-copies, real drawings", 0.25, 4),
        ("near-copies, real drawings, four hands", 0.0, 2),
    ]


def test_the_judge_is_asked_about_what_would_be_saved():
    judge, rows = Judge(TINY).eval(), core_members("seen")[:3]
    images = torch.randint(0, 256, (3, 3, 128, 128), generator=generator(), dtype=torch.uint8)
    a, b = judged(judge, rows, images), judged(judge, rows, images.float() / 127.5 - 1)
    assert a.name_rank.equal(b.name_rank) and a.name == b.name and set(a.style) <= set(STYLES)


def test_each_thing_goes_to_another_of_the_four_hands():
    old, new = manipulations.pairs_of_hands(60, seed=1)
    assert are_unlike(old).all() and are_unlike(new).all()
    assert set(torch.cat((old, new)).tolist()) <= set(members("seen").tolist())
    for a, b in zip(old.tolist(), new.tolist(), strict=True):
        assert drawings()[a].name == drawings()[b].name
        assert drawings()[a].style != drawings()[b].style
    assert len({drawings()[row].style for row in new.tolist()}) == 4


@pytest.fixture
def weights(tiny_dalle2, tmp_path):
    save_model(tmp_path / "weights" / "judge", "judge", Judge(TINY))
    return save_tiny(tiny_dalle2, tmp_path / "weights")


def test_evaluate_writes_rows_and_sheets(weights, tmp_path, monkeypatch, capsys, bars):
    monkeypatch.setattr(report, "REAL", 20)
    monkeypatch.setattr(manipulations, "WALK", Walk(2))
    monkeypatch.setattr(manipulations, "BATCH", 2)
    few, names = core_members("seen")[:8], core_names()[:40]
    monkeypatch.setattr("minidalle2.worlds.emoji.evaluation.naming.core_names", lambda: names)
    monkeypatch.setattr("minidalle2.worlds.emoji.evaluation.naming.core_members", lambda split: few)
    command = ["evaluate", "--world", "emoji", "--weights", str(weights), "-n", "3"]
    command += ["--json", str(tmp_path / "r.json"), "--pictures", str(tmp_path / "sheets")]
    assert main([*command, "--device", "cpu"]) == 0, capsys.readouterr().err
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert {row["what"] for row in rows} == set(report.WHAT)
    ns = {"judge": {20}, "clip": {8}, "prompts": {3}, "copying": {3}, "manipulations": {3}}
    for row in rows:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert "four hands" in row["name"] or row["n"] in ns[row["what"]]
    sheets = {path.name for path in (tmp_path / "sheets").iterdir()}
    drawn = {f"prompts_{split}_{lang}.png" for split in report.SPLITS for lang in LANGUAGES}
    assert sheets == drawn | {"copying.png", "LICENSES"}
    activities = {"reading pictures", "embedding 8 drawings", "drawing, Chinese"}
    assert activities | {"comparing with the training pictures", "editing 3 drawings"} < set(
        bars.full()
    )


def test_natural_prompts_parse_and_can_be_answered():
    prompts = natural_prompts()
    core = {name.name for name in known_names() if name.tier == "core"}
    known = {name.name for name in core_names()} | {name.name for name in known_names()}
    assert len(prompts) >= 200 and len({one.prompt for one in prompts}) == len(prompts)
    for i, one in enumerate(prompts):
        assert one.prompt.strip() and set(one.accepted) <= known, f"prompt {i}"
        assert set(one.accepted) & core, f"prompt {i}"
    assert {one.language for one in prompts} == {"English", "Chinese"}
    assert any(one.background is not None for one in prompts)


def test_the_best_accepted_name_counts():
    names = [name.name for name in known_names()]
    prompts = (
        Natural("p", (names[4], names[7]), None),
        Natural("q", (names[2], "no name"), WHITE),
    )
    scores = torch.zeros(4, len(names))  # both prompts, and both again
    scores[0, [1, 4, 7]] = torch.tensor([3.0, 1.0, 2.0])
    scores[1, 2] = 1
    scores[2, 4] = 1
    scores[3, :6] = torch.tensor([6.0, 5, 1, 4, 3, 2])
    assert accepted_ranks(scores, prompts).tolist() == [1, 0, 0, 5]


def test_backgrounds_of_real_pictures_are_read():
    rows = members("seen")[::30]
    backgrounds = sample_backgrounds(rows, generator())
    for size in (32, 128):
        pictures = to_uint8(compose(draw(rows, size), backgrounds))
        assert (read_backgrounds(pictures) == backgrounds).float().mean() > 0.99


def test_natural_rows_are_over_prompts(monkeypatch):
    """Of three prompts, one is right twice, one once, and one never."""
    prompts = (
        Natural("a crab", ("crab",), None),
        Natural("a dog on red", ("dog",), list(BACKGROUNDS).index("red")),
        Natural("猫", ("cat",), None),
    )
    place = {name.name: i for i, name in enumerate(known_names())}
    scores = torch.zeros(6, len(place))
    scores[[0, 3, 1], [place["crab"], place["crab"], place["dog"]]] = 1
    images = torch.full((6, 3, 128, 128), 255, dtype=torch.uint8)
    images[4, 1:] = 0  # the second picture of the dog is on red
    monkeypatch.setattr(natural, "natural_prompts", lambda: prompts)
    monkeypatch.setattr(natural, "draw_natural", lambda *_: images)
    monkeypatch.setattr(natural, "read_all", lambda *_: (scores, None))
    found = {row["name"]: (row["accuracy"], row["n"]) for row in natural_rows(None, None)}
    assert found == {
        "name top-1": (0.5, 3),
        "name top-5": (0.5, 3),
        "name top-1, English": (0.75, 2),
        "name top-5, English": (0.75, 2),
        "name top-1, Chinese": (0, 1),
        "name top-5, Chinese": (0, 1),
        "background right, named": (0.5, 1),
        "background white, none named": (1, 2),
    }


def test_natural_prompts_are_drawn_twice_and_on_request_only(weights, monkeypatch):
    assert "natural" not in report.WHAT and report.ON_REQUEST == ("natural",)
    some = natural_prompts()[:2]
    monkeypatch.setattr(natural, "natural_prompts", lambda: some)
    drawn = []
    draw_prompts = natural.draw_prompts

    def watched(dalle2, prompts, *args, **options):
        drawn.extend(prompts)
        return draw_prompts(dalle2, prompts, *args, **options)

    monkeypatch.setattr(natural, "draw_prompts", watched)
    rows = list(report.evaluate(weights, CPU, ["natural"], 1, 0))
    assert drawn == [one.prompt for one in some] * 2
    assert {row["what"] for row in rows} == {"natural"} and rows[0]["n"] == 2
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in rows)


def refused(capsys, *command) -> str:
    assert main(["evaluate", *command]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_errors_say_what_would_work(tiny_dalle2, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minidalle2.evaluation.judging.WEIGHTS", tmp_path)
    said = refused(capsys, "--world", "emoji", "--what", "probe")
    assert "can't evaluate 'probe'" in said and "judge,clip,prompts,copying" in said
    monkeypatch.setattr("minidalle2.commands.options.WEIGHTS", tmp_path)
    said = refused(capsys, "--world", "emoji")
    assert "no weights for the world emoji" in said and "train all --world emoji" in said
    assert "no world 'emojis'" in refused(capsys, "--world", "emojis")
    weights = save_tiny(tiny_dalle2, tmp_path / "w")
    said = refused(capsys, "--world", "emoji", "--weights", str(weights), "--device", "cpu")
    assert "there is no judge checkpoint" in said
