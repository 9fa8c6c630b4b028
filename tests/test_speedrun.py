"""The speedrun: what it trains on, what it judges, and the record that it leaves."""

import json
import re

import torch

from minidalle2.commands.cli import main
from minidalle2.training.recipes import PROFILES
from minidalle2.worlds.shapes import speedrun
from minidalle2.worlds.shapes.near_misses import sample_near_misses
from minidalle2.worlds.shapes.scenes import SHAPES, sample_scenes
from minidalle2.worlds.shapes.world import Shapes


def words(caption):
    return re.findall(r"\w+", caption)


def test_its_world_shows_no_more_than_two_objects_and_no_signs():
    world = Shapes(speedrun.KINDS)
    generator = torch.Generator().manual_seed(0)
    captions = world.captioned(200, generator)[1] + world.contrasting(64, generator)[1]
    assert not any("sign" in caption for caption in captions)
    assert {sum(word in SHAPES for word in words(caption)) for caption in captions} == {1, 2}
    near = sample_near_misses(400, generator, speedrun.KINDS)
    assert near.count.max() == 2 and near.count.min() == 1


def test_the_other_worlds_batches_are_what_they_were():
    images, captions = Shapes().captioned(50, torch.Generator().manual_seed(3))
    kinds = sample_scenes(50, "train", torch.Generator().manual_seed(3)).kind.unique()
    assert len(kinds) == 4 and any("sign" in caption for caption in captions)


def test_a_quarter_of_the_prompts_holds_an_unseen_pair(monkeypatch):
    asked_for = {}

    def count(dalle2, judge, name, n, seed):
        asked_for[name] = n
        return speedrun.row("speedrun", name, "", n // 2, n)

    monkeypatch.setattr(speedrun, "_row", count)
    monkeypatch.setattr(speedrun, "load_model", lambda *_: torch.nn.Identity())
    dalle2 = type("Nothing", (), {"device": torch.device("cpu")})()
    both = speedrun.judged(dalle2, 500, 0)[-1]
    assert asked_for == {"two objects": 375, "held-out pairs, two objects": 125}
    assert both["n"] == 500 and both["accuracy"] == (187 + 62) / 500


def test_a_run_leaves_weights_and_a_record_and_refuses_to_start_over(tmp_path, capsys, bars):
    command = ["speedrun", "--profile", "smoke", "-n", "4", "--device", "cpu"]
    command += ["--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "goal of 90% missed" in capsys.readouterr().out
    tested = [activity for activity, done, total in bars.ended[-2:] if done == total]
    assert tested == ["testing two objects", "testing held-out pairs, two objects"]
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert list(record["seconds"]) == ["tokenizer", "clip", "prior", "decoder"]
    assert record["rows"][-1]["n"] == 4
    assert len((tmp_path / "speedruns.jsonl").read_text().splitlines()) == 1
    assert main(command) == 2
    assert "already holds a training" in capsys.readouterr().err


def test_no_upsampler_is_trained_and_the_recipe_is_shorter_than_the_laptops():
    for stage in ("clip", "prior", "decoder"):
        short, long = PROFILES["speedrun"][stage], PROFILES["laptop"][stage]
        assert short.steps * short.batch_size < long.steps * long.batch_size
    assert not {"upsampler64", "upsampler128"} & set(speedrun.STAGES)
