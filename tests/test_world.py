"""The shapes world: what is held out stays out, captions are true, pictures show the scene."""

import os
import random
import re
import time
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from minidalle2.worlds.shapes import captions as wording
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import (
    BACKGROUND_RGB,
    COLOUR_RGB,
    INK,
    LETTER_PIXEL,
    PAPER,
    RADII,
    draw,
    word_masks,
)
from minidalle2.worlds.shapes.near_misses import GROUP, sample_near_misses
from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR,
    KINDS,
    PLACES,
    SHAPES,
    SIZES,
    SPLITS,
    WORDS,
    Scenes,
    holds_held_out_combination,
    holds_held_out_pair,
    sample_scenes,
)
from minidalle2.worlds.shapes.world import Shapes

INSIDE = {"ring": (0.8, 0.0), "moon": (-0.5, 0.0)}  # ink, in radii from the centre


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def scenes_of(split: str, n: int = 2_000) -> Scenes:
    return sample_scenes(n, split, generator())


@cache
def captions_of(split: str, n: int = 2_000) -> list[str]:
    return describe(scenes_of(split, n), random.Random(0), split)


# --- what is held out ---------------------------------------------------------------------------


def objects_of(scenes: Scenes) -> list[list[tuple[str, str]]]:
    """(shape, colour) of each object of each scene, by a path of its own."""
    return [
        [(SHAPES[s], COLOURS[c]) for s, c in zip(*pair, strict=True) if s >= 0]
        for pair in zip(scenes.shape.tolist(), scenes.colour.tolist(), strict=True)
    ]


HELD_OUT_PAIRS = {(SHAPES[s], COLOURS[c]) for s, c in enumerate(HELD_OUT_COLOUR.tolist())}


def combinations_in(things: list[tuple[str, str]]) -> set[frozenset]:
    return {frozenset((a, b)) for i, a in enumerate(things) for b in things[:i]}


@cache
def held_out_combinations() -> frozenset:
    """Asked one by one of the rule, over all unordered pairs of pairs."""
    s, c = torch.arange(8).repeat_interleave(8), torch.arange(8).repeat(8)
    first, second = torch.arange(64).repeat_interleave(64), torch.arange(64).repeat(64)
    empty = torch.full((64 * 64,), -1)
    zeros, false = torch.zeros(64 * 64, 3), torch.zeros(64 * 64, dtype=torch.bool)
    scenes = Scenes(
        torch.stack((s[first], s[second], empty), 1),
        torch.stack((c[first], c[second], empty), 1),
        zeros.long(),
        zeros.long(),
        zeros,
        zeros,
        empty + 1,
        empty,
        false,
        false,
        false,
    )
    held = holds_held_out_combination(scenes).tolist()
    things = objects_of(scenes)
    return frozenset(frozenset(pair) for pair, out in zip(things, held, strict=True) if out)


def test_each_shape_and_each_colour_loses_one_partner():
    assert len({s for s, _ in HELD_OUT_PAIRS}) == len({c for _, c in HELD_OUT_PAIRS}) == 8


def test_about_a_tenth_of_the_combinations_is_held_out():
    assert 0.07 < len(held_out_combinations()) / (64 * 65 / 2) < 0.13


@pytest.mark.parametrize("source", ["train", "seen", "phrasings", "near misses"])
def test_training_holds_nothing_held_out(source):
    if source == "near misses":
        scenes = sample_near_misses(20_000, generator())
    else:
        scenes = sample_scenes(20_000, source, generator())
    for things in objects_of(scenes):
        assert not set(things) & HELD_OUT_PAIRS
        assert not combinations_in(things) & held_out_combinations()


def test_the_held_out_splits_hold_what_they_are_for():
    for things in objects_of(scenes_of("pairs")):
        assert set(things) & HELD_OUT_PAIRS
        assert not combinations_in(things) & held_out_combinations()
    for things in objects_of(scenes_of("combinations")):
        assert not set(things) & HELD_OUT_PAIRS
        assert combinations_in(things) & held_out_combinations()
    assert {t for things in objects_of(scenes_of("pairs")) for t in things} >= HELD_OUT_PAIRS
    assert bool(holds_held_out_pair(scenes_of("pairs")).all())


def test_everything_else_is_seen_in_training():
    pairs = {thing for things in objects_of(scenes_of("train", 20_000)) for thing in things}
    assert len(pairs) == 56
    scenes = scenes_of("train", 20_000)
    for name, values in (("size", SIZES), ("background", BACKGROUNDS), ("word", WORDS)):
        assert set(getattr(scenes, name).flatten().tolist()) - {-1} == set(range(len(values)))
    assert set(scenes.place.flatten().tolist()) - {-1} == set(range(len(PLACES)))


def test_kinds_are_drawn_as_asked():
    kinds = sample_scenes(3_000, "seen", generator(), ("one", "two")).kind
    assert 0.62 < (kinds == KINDS.index("two")).float().mean() < 0.71 and kinds.max() == 1
    with pytest.raises(ValueError, match="unknown split 'test'; the shapes world has train"):
        sample_scenes(1, "test", generator())


# --- what captions say --------------------------------------------------------------------------

OBJECT = rf"an? (?:(?:{'|'.join(SIZES)}) )?(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
PLACE = rf"in the (?:{'|'.join(sorted(PLACES, key=len, reverse=True))})"
RELATION = "|".join(sorted(sum(wording.RELATIONS.values(), ()), key=len, reverse=True))
SLOTS = {
    **{name: OBJECT for name in ("a", "b", "c")},
    **{name: PLACE for name in ("pa", "pb", "pc")},
    "r": RELATION,
    "w": "|".join(WORDS),
    "background": "|".join(BACKGROUNDS),
    "caption": ".*",
}


def pattern(template: str) -> str:
    """A template of captions.py as a regular expression with a named group a slot."""
    parts = re.split(r"\{(\w+)\}", template)
    return "".join(
        f"(?P<{part}>{SLOTS[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts)
    )


def patterns(phrasings: dict, endings: tuple) -> list[str]:
    return [pattern(t) for templates in phrasings.values() for t in templates], [
        pattern(t) for t in endings
    ]


TRAIN = patterns(wording.TRAIN, wording.BACKGROUND_TRAIN)
HELD_OUT = patterns(wording.HELD_OUT, wording.BACKGROUND_HELD_OUT)


def parse(caption: str, sentences: list[str], endings: list[str]) -> dict[str, str]:
    """The slots of the first phrasing that a whole caption matches."""
    found = {}
    for ending in endings:
        if match := re.fullmatch(ending, caption):
            found = {"background": match["background"]}
            caption = match["caption"]
            break
    for sentence in sentences:
        if match := re.fullmatch(sentence, caption):
            return found | match.groupdict()
    raise AssertionError(f"no phrasing matches {caption!r}")


def test_no_training_caption_contains_a_held_out_phrasing():
    near = describe(sample_near_misses(2_000, generator()), random.Random(0))
    for caption in captions_of("train", 20_000) + near:
        parse(caption, *TRAIN)
    held_out = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", p) for part in HELD_OUT for p in part))
    joined = "\n".join(set(captions_of("train", 20_000) + near))
    assert held_out.search(joined) is None


def test_phrasings_captions_are_all_held_out_ones():
    for caption in captions_of("phrasings"):
        parse(caption, *HELD_OUT)
        with pytest.raises(AssertionError):
            parse(caption, *TRAIN)


RELATION_HOLDS = {
    "to the left of": lambda x, y: x[0] < x[1] - 0.2,
    "left of": lambda x, y: x[0] < x[1] - 0.2,
    "to the right of": lambda x, y: x[0] > x[1] + 0.2,
    "right of": lambda x, y: x[0] > x[1] + 0.2,
    "above": lambda x, y: y[0] < y[1] - 0.2,
    "over": lambda x, y: y[0] < y[1] - 0.2,
    "below": lambda x, y: y[0] > y[1] + 0.2,
    "under": lambda x, y: y[0] > y[1] + 0.2,
}


def check_place(words: str, x: float, y: float) -> None:
    name = words.removeprefix("in the ")
    assert ("left" in name) == (x < 0.4) and ("right" in name) == (x > 0.6), (words, x)
    assert ("top" in name) == (y < 0.4) and ("bottom" in name) == (y > 0.6), (words, y)


@pytest.mark.parametrize("split", SPLITS)
def test_captions_say_what_the_scene_shows(split):
    scenes = scenes_of(split)
    allowed = HELD_OUT if split == "phrasings" else TRAIN
    told = set()
    for i, caption in enumerate(captions_of(split)):
        said = parse(caption, *allowed)
        told |= set(said)
        shape, x, y = scenes.shape[i].tolist(), scenes.x[i].tolist(), scenes.y[i].tolist()
        names = [name for name in "abc" if name in said]
        assert len(names) == int(scenes.count[i])
        for k, name in enumerate(names):
            colour, noun = said[name].split()[-2:]
            assert (noun, colour) == (SHAPES[shape[k]], COLOURS[scenes.colour[i, k]])
            size = [word for word in said[name].split() if word in SIZES]
            assert size == ([SIZES[scenes.size[i, k]]] if scenes.says_sizes[i] else [])
            assert said[name].split()[0] == ("an" if said[name].split()[1][0] in "aeiou" else "a")
            if f"p{name}" in said:
                check_place(said[f"p{name}"], x[k], y[k])
        if "r" in said:
            assert RELATION_HOLDS[said["r"]](x, y), (caption, x, y)
        assert said.get("w") == (WORDS[scenes.word[i]] if scenes.word[i] >= 0 else None)
        background = BACKGROUNDS[scenes.background[i]] if scenes.says_background[i] else None
        assert said.get("background") == background
        placed = "r" in said or "pa" in said or scenes.word[i] >= 0
        assert placed == bool(scenes.says_places[i]) or scenes.word[i] >= 0
    assert told >= {"a", "b", "r", "background"}


def test_several_phrasings_for_each_scene():
    scene = sample_scenes(1, "train", generator(), ("two",))
    rng = random.Random(0)
    assert len({describe(scene, rng)[0] for _ in range(100)}) >= 4


# --- near misses --------------------------------------------------------------------------------


def content(scenes: Scenes) -> dict[str, torch.Tensor]:
    names = ("shape", "colour", "size", "place", "background", "word")
    return {name: getattr(scenes, name) for name in names}


def test_near_misses_differ_from_the_first_in_one_change():
    """One value of one attribute; or the colours or places of two objects swapped; or a layout."""
    scenes = sample_near_misses(1_600, generator())
    changed = torch.zeros(1_600 // GROUP, GROUP, dtype=torch.int)
    for name, value in content(scenes).items():
        groups = value.reshape(len(changed), GROUP, -1)  # (groups, GROUP, slots)
        different = groups != groups[:, :1]
        slots = different.sum(2)
        assert slots.max() == {"colour": 2, "place": 3}.get(name, 1), name
        for group, row in (slots == 2).nonzero().tolist() if name == "colour" else []:
            assert torch.equal(groups[group, row, [1, 0, 2]], groups[group, 0])
        changed += different.any(2)
    assert changed.max() == 1 and not changed[:, 0].any()
    assert changed[:, 1:].float().mean() > 0.7
    swapped = scenes.place.reshape(len(changed), GROUP, 3)
    swaps = (swapped == swapped[:, :1, [1, 0, 2]]).all(2) & (scenes.count >= 2).reshape(-1, GROUP)
    assert swaps.any()


def test_captions_of_near_misses_say_everything():
    scenes = sample_near_misses(400, generator())
    said = torch.stack((scenes.says_sizes, scenes.says_places, scenes.says_background))
    assert bool(said.all())
    assert len(sample_near_misses(13, generator())) == 13


# --- pictures -----------------------------------------------------------------------------------


def test_one_seed_one_batch():
    for make in (Shapes().captioned, Shapes().near_misses):
        (images, captions), (same, same_captions) = make(50, generator(4)), make(50, generator(4))
        assert torch.equal(images, same) and captions == same_captions
        assert not torch.equal(images, make(50, generator(5))[0])
    assert torch.equal(Shapes().crops(9, generator(4), 128), Shapes().crops(9, generator(4), 128))
    images, captions = Shapes().captioned(5, generator(), "pairs", 64)
    assert images.shape == (5, 3, 64, 64) and len(captions) == 5


def test_the_colour_at_an_objects_centre_is_its_own():
    scenes = scenes_of("train")[:300]
    pictures = (draw(scenes, 64) + 1) / 2
    torch.testing.assert_close(pictures[:, :, 0, 0], BACKGROUND_RGB[scenes.background])
    for i in range(len(scenes)):
        for k in range(int(scenes.count[i])):
            dx, dy = INSIDE.get(SHAPES[scenes.shape[i, k]], (0, 0))
            radius = RADII[scenes.size[i, k]]
            column = int((scenes.x[i, k] + dx * radius) * 64)
            row = int((scenes.y[i, k] + dy * radius) * 64)
            expected = COLOUR_RGB[scenes.colour[i, k]]
            torch.testing.assert_close(pictures[i, :, row, column], expected, atol=0.02, rtol=0)


def test_pixels_are_in_range_and_edges_are_anti_aliased():
    scenes = sample_scenes(8, "train", generator(), ("one",))
    pictures = draw(scenes, 32)
    assert pictures.min() >= -1 and pictures.max() <= 1
    paint = COLOUR_RGB[scenes.colour[:, 0]] - BACKGROUND_RGB[scenes.background]
    shade = (pictures + 1) / 2 - BACKGROUND_RGB[scenes.background][:, :, None, None]
    coverage = (shade * paint[:, :, None, None]).sum(1) / (paint**2).sum(1)[:, None, None]
    partly = (coverage > 0.02) & (coverage < 0.98)
    assert bool((partly.flatten(1).sum(1) >= 8).all())


def test_small_pictures_are_averaged_large_ones():
    scenes = scenes_of("train")[:200]
    difference = (F.avg_pool2d(draw(scenes, 128), 4) - draw(scenes, 32)).abs().flatten()
    assert difference.mean() < 0.003 and difference.quantile(0.998) < 0.15
    assert difference.max() < 0.7  # at thin tips, where the distance at a pixel's middle misleads


@pytest.mark.parametrize("size", [64, 128])
def test_a_window_is_a_crop_of_the_whole(size):
    scenes = scenes_of("train")[:64]
    places = torch.randint(size - size // 4 + 1, (2, 64), generator=generator())
    crops = draw(scenes, size // 4, window=(places[0] / size, places[1] / size, 0.25))
    whole = draw(scenes, size)
    for crop, picture, left, top in zip(crops, whole, *places.tolist(), strict=True):
        part = picture[:, top : top + size // 4, left : left + size // 4]
        torch.testing.assert_close(crop, part, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [64, 128])
def test_crops_lie_on_whole_pixels_of_both_resolutions(monkeypatch, size):
    windows = []

    def note(scenes, pixels, window):
        windows.append(window)
        return draw(scenes, pixels, window)

    monkeypatch.setattr("minidalle2.worlds.shapes.world.draw", note)
    assert Shapes().crops(400, generator(), size).shape == (400, 3, size // 4, size // 4)
    left, top, side = windows[0]
    assert side == 0.25
    for edge in (left, top):
        assert torch.equal(edge * size / 2, (edge * size / 2).round())
        assert edge.min() == 0 and edge.max() == 0.75


def test_words_are_legible_at_32_px():
    scenes = sample_scenes(200, "train", generator(), ("words",))
    pictures = (draw(scenes, 32) + 1) / 2
    for i in range(len(scenes)):
        middle = int((scenes.sign_y[i] / LETTER_PIXEL).item())
        letters = pictures[i, :, middle - 2 : middle + 3, 4:28]
        ink = word_masks()[scenes.word[i]].bool()
        torch.testing.assert_close(letters[:, ink], INK[:, None].expand(-1, int(ink.sum())))
        torch.testing.assert_close(letters[:, ~ink], PAPER[:, None].expand(-1, int((~ink).sum())))
    assert len({tuple(mask.flatten().tolist()) for mask in word_masks()}) == len(WORDS)


def test_at_least_5000_pictures_a_second():
    """Best of several runs, since other work may share the processor; the rate alone is no bug
    where that work takes nearly all of it."""
    rates = []
    for seed in range(6):
        started = time.perf_counter()
        draw(sample_scenes(500, "train", generator(seed)), 32)
        rates.append(500 / (time.perf_counter() - started))
    busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > os.cpu_count()
    if max(rates) < 5_000 and busy:
        pytest.skip(f"the machine is busy: {max(rates):.0f} pictures a second")
    assert max(rates) >= 5_000
