"""Critters and sprouts: rules, captions, drawings, and what is held out."""

import json
import random
import re
from collections import Counter
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageColor

from minidalle2.cli import main
from minidalle2.pictures import load_png
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.critters import captions, drawing
from minidalle2.worlds.critters.captions import describe
from minidalle2.worlds.critters.scenes import (
    BLOOMS, COLOURS, EYES, GROUP, HELD_OUT_BODIES, HELD_OUT_MOUTHS, HELD_OUT_POTS, MOUTHS, NO_BLOOM,
    OPTIONS, SHAPES, Critter, Sprout, exists, held_out_pairs, sample, sample_group, swapped,
)  # fmt: skip
from minidalle2.worlds.critters.world import GROUPS, OTHERS, Critters, planned

RED_CRITTER = Critter("round", "red", "horns", "blue", "happy", "smile", "white")
RED_TULIP = Sprout("tulip", "red", "pot", "blue", "happy", "smile", "white")


@pytest.fixture(scope="module")
def plan():
    scenes, shifts = planned(GROUPS, OTHERS)
    return scenes, shifts


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return Critters(tmp_path_factory.mktemp("cache"), groups=10, others=20)


def test_no_training_or_seen_picture_has_a_held_out_pair(plan):
    scenes, _ = plan
    train, seen, pairs = scenes[: 8 * GROUPS], scenes[8 * GROUPS : -OTHERS], scenes[-OTHERS:]
    assert len(train) == 6_400 and len(seen) == len(pairs) == 400
    assert not any(map(held_out_pairs, train)) and not any(map(held_out_pairs, seen))
    assert all(map(held_out_pairs, pairs))
    assert not set(train) & set(seen) and not set(train) & set(pairs)
    assert all(map(exists, scenes))


def test_all_other_pairs_are_in_training(plan):
    """So a held-out pair is a new pair of seen parts, and training lacks nothing else."""
    train = plan[0][: 8 * GROUPS]
    bodies = {(s.shape, s.colour) for s in train if isinstance(s, Critter)}
    pots = {(s.bloom, s.pot_colour) for s in train if isinstance(s, Sprout) and s.bloom}
    faces = {(s.eyes, s.mouth) for s in train}
    assert bodies == {(s, c) for s in SHAPES for c in COLOURS} - HELD_OUT_BODIES.items()
    different = {(b, c) for b in BLOOMS for c in COLOURS if b != c}
    assert pots == different - HELD_OUT_POTS.items()
    assert faces == {(e, m) for e in EYES for m in MOUTHS} - HELD_OUT_MOUTHS.items()
    assert 0.4 < sum(isinstance(s, Critter) for s in train) / len(train) < 0.6


def test_held_out_pairs_take_one_partner_from_each():
    assert set(HELD_OUT_BODIES) == set(SHAPES)
    assert sorted(HELD_OUT_BODIES.values()) == sorted(COLOURS)
    assert set(HELD_OUT_POTS) == set(BLOOMS) == set(HELD_OUT_POTS.values())
    assert all(bloom != pot for bloom, pot in HELD_OUT_POTS.items())
    assert set(HELD_OUT_MOUTHS) == set(EYES) and set(HELD_OUT_MOUTHS.values()) == set(MOUTHS)


def test_groups_are_one_change_or_one_swap_apart(plan):
    swaps = 0
    for start in range(0, 8 * GROUPS, GROUP):
        base, *others = plan[0][start : start + GROUP]
        assert len({base, *others}) == GROUP
        if (other := swapped(base)) is not None:
            swaps += 1
            assert others[0] == other and swapped(other) == base
            others = others[1:]
        for scene in others:
            changed = [f.name for f in fields(base)
                       if getattr(scene, f.name) != getattr(base, f.name)]  # fmt: skip
            assert len(changed) == 1, (base, scene)
    assert 0.55 < swaps / GROUPS < 0.95


def test_swap_is_the_binding_question():
    rng = random.Random(0)
    for scene, a, b in (
        (RED_TULIP, "a red tulip in a blue pot", "a blue tulip in a red pot"),
        (RED_CRITTER, "a round red critter with blue horns", "a round blue critter with red horns"),
    ):
        assert a in describe(scene, rng, True) and b in describe(swapped(scene), rng, True)
    assert swapped(Sprout("cactus", NO_BLOOM, "pot", "red", "happy", "smile", "white")) is None
    assert swapped(Sprout("tulip", "red", "pot", "green", "happy", "smile", "white")) is None


scenes = st.builds(
    lambda seed, held: sample(random.Random(seed), held), st.integers(0, 2**32), st.booleans()
)


@settings(max_examples=300, deadline=None)
@given(scene=scenes, seed=st.integers(0, 2**32), everything=st.booleans())
def test_captions_are_right_english(scene, seed, everything):
    caption = describe(scene, random.Random(seed), everything)
    assert caption == caption.strip().lower() and "  " not in caption and "{" not in caption
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption
    assert not re.search(r"there is two|there are (a|some)\b|\ba (round|two) eyes", caption), (
        caption
    )
    said = Counter(word for word in re.findall(r"[a-z]+", caption) if word in COLOURS)
    if isinstance(scene, Critter):
        assert f"{scene.shape} {scene.colour} critter" in caption
        assert said <= Counter([scene.colour, scene.top_colour])
    else:
        assert said == Counter([c for c in (scene.bloom, scene.pot_colour) if c])
    if everything:
        assert captions.EYES[scene.eyes] in caption and captions.MOUTHS[scene.mouth] in caption
        assert f"{scene.background} background" in caption


@settings(max_examples=200, deadline=None)
@given(a=scenes, b=scenes, seed=st.integers(0, 2**32))
def test_different_scenes_have_different_full_captions(a, b, seed):
    rng = random.Random(seed)
    assert (a == b) == (_facts(describe(a, rng, True)) == _facts(describe(b, rng, True)))


def _facts(caption):
    """A full caption without its phrasing."""
    caption = re.sub(r"^(a picture of|there is|there are) ", "", caption)
    return re.sub(r", (\w+) background$", r" on a \1 background", caption)


def test_captions_fit_the_tokenizer(plan):
    rng = random.Random(0)
    texts = [describe(scene, rng, True) for scene in plan[0]]
    tokenizer = Tokenizer.train(texts[:3000])
    assert tokenizer(texts).shape[1] <= 40
    assert len(tokenizer.words) < 80


def test_every_part_has_a_word_and_a_drawing():
    for kind, tables in (
        (Critter, {"shape": drawing.BODIES, "top": drawing.TOPS, "eyes": drawing.EYES}),
        (Sprout, {"plant": drawing.PLANTS, "pot": drawing.POTS}),
    ):
        for name, table in tables.items():
            assert set(table) == set(OPTIONS[kind][name])
            assert len(set(table.values())) == len(table)
    for ours, words in (
        (drawing.TOPS, captions.TOPS), (drawing.PLANTS, captions.PLANTS),
        (drawing.POTS, captions.POTS), (drawing.EYES, captions.EYES),
        (drawing.MOUTHS, captions.MOUTHS),
    ):  # fmt: skip
        assert set(ours) == set(words) and len(set(words.values())) == len(words)


def test_colours_are_far_from_each_other_and_from_the_backgrounds():
    rgb = [ImageColor.getrgb(f"#{value}") for value in drawing.COLOUR_HEX.values()]
    grounds = [ImageColor.getrgb(f"#{value}") for value in drawing.BACKGROUND_HEX.values()]
    for i, a in enumerate(rgb):
        for b in rgb[:i] + grounds:
            assert np.linalg.norm(np.subtract(a, b)) > 75, (a, b)


@pytest.mark.parametrize(
    "scene", [RED_CRITTER, RED_TULIP, swapped(RED_CRITTER), swapped(RED_TULIP)]
)
def test_the_drawing_has_the_colours_of_the_scene_where_they_belong(scene):
    pixels = np.asarray(drawing.draw(scene, 0, 128))
    below, above = (
        (scene.colour, scene.top_colour) if isinstance(scene, Critter)
        else (scene.pot_colour, scene.bloom)
    )  # fmt: skip

    def count(colour, rows):
        near = np.abs(
            pixels[rows].astype(int) - ImageColor.getrgb(f"#{drawing.COLOUR_HEX[colour]}")
        )
        return (near.max(-1) <= 3).sum()

    low, high = slice(96, 128), slice(0, 60)
    assert count(below, low) > 1000 and count(above, low) == 0
    assert count(above, high) > 80
    corner = ImageColor.getrgb(f"#{drawing.BACKGROUND_HEX[scene.background]}")
    assert np.abs(pixels[2, 2].astype(int) - corner).max() <= 1


def test_each_attribute_shows():
    """Changing any one changes the picture, even at 32 px."""
    for base in (RED_CRITTER, RED_TULIP):
        before = np.asarray(drawing.draw(base, 0, 128).reduce(4)).astype(int)
        for name, options in OPTIONS[type(base)].items():
            for option in options:
                scene = type(base)(**{**asdict(base), name: option})
                if scene == base or not exists(scene):
                    continue
                after = np.asarray(drawing.draw(scene, 0, 128).reduce(4)).astype(int)
                assert (np.abs(after - before).max(-1) > 40).sum() >= 2, (name, option)


def test_a_drawing_is_the_same_each_time_and_shifts():
    a, b = drawing.draw(RED_TULIP, 0, 64), drawing.draw(RED_TULIP, 0, 64)
    assert a.tobytes() == b.tobytes() and a.size == (64, 64) and a.mode == "RGB"
    moved = np.asarray(drawing.draw(RED_TULIP, 6.25, 64)).astype(int)  # 4 of 64 pixels
    assert np.abs(moved[:, 4:] - np.asarray(a)[:, :-4].astype(int)).max() <= 2


def test_batches_show_what_they_say(world):
    pictures, said = world.captioned(20, torch.Generator().manual_seed(0), "pairs", size=64)
    assert len(said) == 20
    for row in world.rows("pairs").tolist():
        scene = world.scenes[row]
        facts = _facts(describe(scene, random.Random(0), True))
        (place,) = [i for i, text in enumerate(said) if _facts(text) == facts]
        ground = ImageColor.getrgb(f"#{drawing.BACKGROUND_HEX[scene.background]}")
        corner = (pictures[place, :, 1, 1] + 1) * 127.5
        assert (corner - torch.tensor(ground)).abs().max() <= 2


def test_they_are_drawn_once(tmp_path, monkeypatch):
    first = Critters(tmp_path, groups=2, others=1)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl", ".u8"]
    lines = next(tmp_path.glob("*.jsonl")).read_text().splitlines()
    kinds = {"critter": Critter, "sprout": Sprout}
    for line, scene in zip(map(json.loads, lines), first.scenes, strict=True):
        kind, _ = kinds[line.pop("kind")], line.pop("shift")
        assert kind(**line) == scene

    def fail(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(drawing, "draw", fail)
    again = Critters(tmp_path, groups=2, others=1)
    for world in (first, again):
        assert torch.equal(
            world.captioned(16, torch.Generator().manual_seed(0))[0],
            first.captioned(16, torch.Generator().manual_seed(0))[0],
        )
    with pytest.raises(AssertionError, match="drawn again"):
        Critters(tmp_path, groups=3, others=1)


def test_without_the_packages_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dicebear", None)
    with pytest.raises(ValueError, match="pip install resvg-py dicebear-core dicebear-styles"):
        Critters(tmp_path, groups=1, others=1)
    assert list(tmp_path.iterdir()) == []


def test_the_styles_are_in_the_public_domain():
    """What the README says of their licence, asked of the installed package."""
    for name in ("critters", "sprouts"):
        licence = drawing._style(name).meta().license()
        assert licence.name() == "CC0 1.0"


def test_group_sampling_never_hangs():
    for seed in range(300):
        assert len(set(sample_group(random.Random(seed)))) == GROUP


def test_export(tmp_path, capsys):
    out = tmp_path / "data"
    command = ["export", "--world", "critters", "--split", "pairs", "-n", "5", "--size", "48"]
    assert main([*command, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == [f"{i:06d}.png" for i in range(5)]
    kinds = {"critter": Critter, "sprout": Sprout}
    for row in rows:
        assert load_png(out / row.pop("file_name")).shape == (3, 48, 48)
        text, kind = row.pop("text"), kinds[row.pop("kind")]
        assert held_out_pairs(kind(**row)) and row["background"] in text
    assert main([*command, "--out", str(tmp_path / "again")]) == 0
    assert (out / "000004.png").read_bytes() == (tmp_path / "again/000004.png").read_bytes()
