"""Scenes → captions.

Each kind of scene has several phrasings. Some phrasings are held out from training. A caption
always names all shapes and colours. It names sizes, places (or the relation of two objects) and the
background only where the scene's `says_` masks are True.
"""

import random

from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    TWO_PLACES,
    WORDS,
    Scenes,
)

RELATIONS = {  # of the first object to the second; the keys are the rows of TWO_PLACES
    0: ("to the left of", "left of"),
    1: ("to the right of", "right of"),
    2: ("above", "over"),
    3: ("below", "under"),
}
# {a} {b} {c}: objects. {pa} {pb} {pc}: their places. {r}: relation of a to b. {w}: word on a sign.
TRAIN = {
    "one": ("{a}", "a picture of {a}", "there is {a}"),
    "one placed": ("{a} {pa}", "a picture of {a} {pa}", "there is {a} {pa}", "{a} is {pa}"),
    "two": ("{a} and {b}", "{a} next to {b}", "a picture of {a} and {b}"),
    "two placed": (
        "{a} {r} {b}",
        "{a} is {r} {b}",
        "there is {a} {r} {b}",
        "a picture of {a} {r} {b}",
    ),
    "three": ("{a}, {b} and {c}", "a picture of {a}, {b} and {c}"),
    "three placed": (
        "{a} {pa}, {b} {pb} and {c} {pc}",
        "there is {a} {pa}, {b} {pb} and {c} {pc}",
        "a picture of {a} {pa}, {b} {pb} and {c} {pc}",
    ),
    "words": (
        "a sign that says {w}",
        'a sign with the word "{w}"',
        "a picture of a sign that says {w}",
    ),
    "words placed": (
        "{a} above a sign that says {w}",
        'there is {a} over a sign with the word "{w}"',
        "a sign that says {w} below {a}",
    ),
}
HELD_OUT = {
    "one": ("this is {a}",),
    "one placed": ("{pa} there is {a}", "{a}, and it is {pa}"),
    "two": ("there is {a} and there is {b}",),
    "two placed": ("{r} {b} there is {a}", "there is {b}, and {a} is {r} it"),
    "three": ("there is {a} and {b} and {c}",),
    "three placed": ("{pa} {a}, {pb} {b}, {pc} {c}", "{a} is {pa}, {b} is {pb}, {c} is {pc}"),
    "words": ("the word on the sign is {w}",),
    "words placed": ("below {a} there is a sign that says {w}",),
}
BACKGROUND_TRAIN = ("{caption} on a {background} background", "{caption}, {background} background")
BACKGROUND_HELD_OUT = ("on a {background} background, {caption}",)


def describe(scenes: Scenes, rng: random.Random, split: str = "train") -> list[str]:
    """Returns one caption for each scene, in a random phrasing of the split."""
    held_out = split == "phrasings"
    phrasings, endings = (HELD_OUT, BACKGROUND_HELD_OUT) if held_out else (TRAIN, BACKGROUND_TRAIN)
    return [_caption(row, rng, phrasings, endings) for row in _rows(scenes)]


def _rows(scenes: Scenes) -> list[tuple]:
    """One tuple of numbers for each scene. Reading single values from tensors would be slower."""
    columns = (
        scenes.shape,
        scenes.colour,
        scenes.size,
        scenes.place,
        scenes.background,
        scenes.word,
        scenes.says_sizes,
        scenes.says_places,
        scenes.says_background,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _caption(row: tuple, rng: random.Random, phrasings: dict, endings: tuple) -> str:
    shape, colour, size, place, background, word, says_sizes, says_places, says_background = row
    count = sum(s >= 0 for s in shape)
    objects = [
        _object_phrase(shape[k], colour[k], size[k] if says_sizes else -1) for k in range(count)
    ]
    kind = "words" if word >= 0 else ("one", "two", "three")[count - 1]
    placed = says_places if word < 0 else count > 0
    slots = dict(zip("abc", objects, strict=False))
    slots |= {f"p{name}": f"in the {PLACES[p]}" for name, p in zip("abc", place, strict=True)}
    if kind == "two":
        slots["r"] = rng.choice(RELATIONS[TWO_PLACES.tolist().index(list(place[:2]))])
    if word >= 0:
        slots["w"] = WORDS[word]
    caption = rng.choice(phrasings[kind + " placed" * placed]).format(**slots)
    if says_background:
        caption = rng.choice(endings).format(caption=caption, background=BACKGROUNDS[background])
    return caption


def _object_phrase(shape: int, colour: int, size: int) -> str:
    """'a large red circle', or without the size if `size` is -1."""
    noun = f"{COLOURS[colour]} {SHAPES[shape]}"
    if size >= 0:
        return f"a {SIZES[size]} {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
