"""The emoji's judge, and what is measured with it and with CLIP."""

import pytest
import torch

from minidalle2.evaluation.emoji.judge import (
    SIZE, Judge, JudgeConfig, judge_data, judge_loss, only_core, read,
)  # fmt: skip
from minidalle2.evaluation.emoji.labels import core_names, known_names, places_in, ranks, styles_of
from minidalle2.evaluation.emoji.worn import erased, moved, worn
from minidalle2.evaluation.judging import load_judge
from minidalle2.training.checkpoints import save_model
from minidalle2.training.stages import train_stage
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.splits import members, split_of
from minidalle2.worlds.emoji.words import STYLES
from minidalle2.worlds.emoji.world import Emoji

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

    monkeypatch.setattr("minidalle2.evaluation.emoji.judge.draw", record)
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
    assert 2 * parameters < 3e6


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
    for head in (judge.name, judge.style):
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
