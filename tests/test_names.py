"""`minidalle2 names`, and what `draw` says about things that the world does not have."""

import random
import subprocess
import sys

import pytest
from tiny_model import save_tiny

from minidalle2.commands.cli import main
from minidalle2.commands.options import advice_of, similar_words, weights_of
from minidalle2.worlds.emoji import requests
from minidalle2.worlds.emoji.captions import caption
from minidalle2.worlds.emoji.names import Drawing, hidden, names, requestable
from minidalle2.worlds.emoji.requests import advice, is_unknown, nearest, thing_of
from minidalle2.worlds.emoji.splits import held_out_names
from minidalle2.worlds.emoji.words import BACKGROUNDS


def test_names_lists_everything_that_is_not_hidden(capsys):
    assert main(["names"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == len(names()) - len(hidden()) == 1390
    assert "crab" in {line.split("  ")[0] for line in lines}
    assert not any(line.startswith("cigarette") for line in lines)
    assert "1,390 of 1,414 names" in said.err and "flags" in said.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["apple"], {"red apple", "green apple", "pineapple"}),
        (["RED", "apple"], {"red apple"}),
        (["苹果"], {"red apple", "green apple"}),
        (["coffee"], {"hot beverage"}),
    ],
)
def test_names_filters(capsys, words, expected):
    assert main(["names", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert expected <= {line.split("  ")[0] for line in lines} and len(lines) < 12


def test_names_can_be_cut_off_by_head():
    command = [sys.executable, "-m", "minidalle2", "names"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 0 and said.startswith("1,390 of 1,414 names")


def test_names_suggests_the_nearest(capsys):
    assert main(["names", "zebrra"]) == 2
    said = capsys.readouterr()
    assert "no name or keyword contains 'zebrra'; the nearest names: zebra (斑马)" in said.err
    assert said.out == "" and main(["names", "xqxq"]) == 2
    assert "`minidalle2 names` lists all names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompt", "thing"),
    [
        ("a noto drawing of a crab on a red background", "crab"),
        ("An openmoji emoji of an apple, blue background.", "apple"),
        ("twemoji hedgehog", "hedgehog"),
        ("a hedgehog in flat style", "hedgehog"),
        ("red heart", "red heart"),
        ("a red heart on a red background", "red heart"),
        ("noto style", ""),
        ("一只noto风格的狗，蓝色背景", "狗"),
        ("红色背景上的openmoji表情：红苹果、吃", "红苹果、吃"),
        ("an emoji in noto style", ""),
        ("螃蟹的表情", "螃蟹"),
        ("a photo of a cat", "cat"),
        ("a flat shoe", "flat shoe"),
        ("a noto drawing of a stuffed flatbread", "stuffed flatbread"),
        ("one o'clock", "one o'clock"),
        ("a button (blood type)", "a button (blood type)"),
        ("两颗心", "两颗心"),
        ("draw a dog please", "dog"),
        ("Can you show me a cup of coffee on a dark background?", "coffee"),
        ("on pink: grey heart", "grey heart"),
        ("给我一杯咖啡", "咖啡"),
        ("请画一个笑脸，背景是蓝色", "笑脸"),
        ("happy birthday!", "happy birthday"),
        ("please draw a blue apple please", "blue apple"),
    ],
)
def test_the_thing_of_a_prompt(prompt, thing):
    assert thing_of(prompt) == thing


def test_no_training_caption_asks_for_something_unknown():
    """Captions with every seventh name, of all phrasings, English and Chinese."""
    rng = random.Random(0)
    some = [name for name in requestable() if name.key not in held_out_names()][::7]
    for name in some:
        for _ in range(3):
            text = caption(Drawing(name, name.styles[0]), rng.randrange(len(BACKGROUNDS)), rng)
            assert not is_unknown(thing_of(text)), (name.name, text, thing_of(text))


@pytest.mark.parametrize(
    "prompt",
    ["a cup of coffee", "咖啡", "happy birthday", "a person with a beard", ":thumbsup:", "小狗"],
)
def test_what_captions_say_is_known(prompt):
    assert not is_unknown(thing_of(prompt))


@pytest.mark.parametrize(
    ("prompt", "near"),
    [
        ("a zebrra", "zebra"),
        ("a blue apple", "red apple"),
        ("🍎", "red apple"),
        ("I ❤️ you", "red heart"),
        ("a france flag", "flag in hole"),
        ("a cup of coffe", "hot beverage"),
        ("a birthday pony", "birthday cake"),
        ("一只飞狗", "dog"),
    ],
)
def test_the_nearest_names(prompt, near):
    found = [requests.spoken(name.name) for name in nearest(thing_of(prompt))]
    assert is_unknown(thing_of(prompt)) and near in found, found


def test_advice_says_what_is_not_included_once():
    lines = advice(["a crab", "france flag", "a quantum state", "france flag"])
    assert len(lines) == 3 and lines[0].startswith("'france flag' is no name of the emoji world")
    assert "not included: flags, skin tones" in lines[-1] and "`minidalle2 names`" in lines[-1]
    assert advice(["a crab", "noto style", "some crabs"]) == []
    many = advice([f"thing{i}" for i in range(9)])
    assert len(many) == 7 and many[5] == "4 more prompts ask for something without a name"
    assert not any("beer" in line for line in advice(["beer mug"])[0].split(";")[1:])


def test_a_world_without_its_data_gives_no_advice(monkeypatch):
    def absent():
        raise ValueError("the emoji world's data is not there")

    monkeypatch.setattr(requests, "requestable", absent)
    requests.by_name.cache_clear()
    assert advice_of("emoji", ["a dragon castle"]) == []
    assert advice_of("shapes", ["a dragon"]) == [] == advice_of("gone", ["a dragon"])


def test_similar_words_are_suggested():
    known = {"circle", "square", "star", "a"}
    assert similar_words(["cirle", "sqare", "dragon", "str"], known) == ["circle", "square"]
    assert similar_words([], known) == []


def test_draw_and_its_siblings_need_weights_and_no_world(tiny_dalle2, few_steps, tmp_path, capsys):
    tiny_dalle2.sampling = few_steps
    weights = save_tiny(tiny_dalle2, tmp_path / "runs")
    options = ["--world", "gone", "--weights", str(weights), "--size", "32", "--device", "cpu"]
    assert main(["draw", "a dragn circl", *options, "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert "these weights have never seen: dragn, circl (drawn anyway)" in said
    assert "similar words that are known: circle" in said
    picture = next((tmp_path / "o").glob("0000*"))
    command = ["edit", str(picture), "--from", "a circle", "--to", "a star", "--steps", "2"]
    assert main([*command, *options, "--out", str(tmp_path / "e")]) == 0
    with pytest.raises(ValueError, match="there is no world 'gone'"):
        weights_of("gone", None)
