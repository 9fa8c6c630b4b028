"""Critters and sprouts: what is in a picture, in words, and which pairs are held out.

A critter is a body with something on its head; a sprout is a plant in a pot. Both have a face, and
a part of one colour beside a part of another, so that the colours can be swapped. Patterns and
cheeks, which vanish at 32 px, are left out, and so are green blooms, for stems are green.
"""

import random
from dataclasses import dataclass, fields, replace
from itertools import cycle

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
BLOOMS = ("red", "orange", "yellow", "cyan", "blue", "purple", "pink")
BACKGROUNDS = ("white", "gray", "black", "beige")  # as in the shapes world, far from all colours
SHAPES = ("round", "square", "tall", "lumpy", "pointed", "bell-shaped", "tapering", "stepped")
TOPS = ("horns", "round ears", "pointed ears", "antennae", "fin", "pompom", "leaves")
BLOOMING = ("tulip", "flower", "buds")
PLANTS = (*BLOOMING, "cactus", "palm tree", "bush", "grass", "seedling", "succulent")
POTS = ("pot", "bowl", "round pot", "square pot")
SPROUT_EYES = ("round", "black", "happy", "winking", "sleepy", "angry")
EYES = (*SPROUT_EYES, "one", "three")
MOUTHS = ("smile", "laugh", "open", "straight", "frown", "tooth")
NO_BLOOM = ""

# In no training picture: a body of this shape in this colour, this bloom in a pot of this colour,
# these eyes over this mouth. Each colour, shape and pair of eyes loses one partner.
HELD_OUT_BODIES = {
    "round": "green", "square": "red", "tall": "blue", "lumpy": "purple", "pointed": "pink",
    "bell-shaped": "orange", "tapering": "cyan", "stepped": "yellow",
}  # fmt: skip
HELD_OUT_POTS = {
    "red": "blue", "orange": "purple", "yellow": "red", "cyan": "pink", "blue": "yellow",
    "purple": "cyan", "pink": "orange",
}  # fmt: skip
HELD_OUT_MOUTHS = {
    "round": "frown", "black": "tooth", "happy": "open", "winking": "straight", "sleepy": "laugh",
    "angry": "smile", "one": "tooth", "three": "open",
}  # fmt: skip
SPLITS = ("train", "seen", "pairs")
GROUP = 8  # near misses of one another


@dataclass(frozen=True)
class Critter:
    """The two colours differ."""

    shape: str
    colour: str
    top: str
    top_colour: str
    eyes: str
    mouth: str
    background: str


@dataclass(frozen=True)
class Sprout:
    """`bloom` is the colour of a blooming plant, not that of the pot; NO_BLOOM for the others."""

    plant: str
    bloom: str
    pot: str
    pot_colour: str
    eyes: str
    mouth: str
    background: str


Scene = Critter | Sprout
BOTH = {"mouth": MOUTHS, "background": BACKGROUNDS}
OPTIONS = {
    Critter: {
        "shape": SHAPES, "colour": COLOURS, "top": TOPS, "top_colour": COLOURS,
        "eyes": EYES, **BOTH,
    },
    Sprout: {
        "plant": PLANTS, "bloom": (NO_BLOOM, *BLOOMS), "pot": POTS, "pot_colour": COLOURS,
        "eyes": SPROUT_EYES, **BOTH,
    },
}  # fmt: skip


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the critters world has {', '.join(SPLITS)}")


def exists(scene: Scene) -> bool:
    """The two colours differ, and a bloom has a colour where there is one and only there."""
    if isinstance(scene, Critter):
        return scene.colour != scene.top_colour
    return (scene.plant in BLOOMING) == (
        scene.bloom != NO_BLOOM
    ) and scene.bloom != scene.pot_colour


def held_out_pairs(scene: Scene) -> list[tuple[str, str]]:
    """The held-out pairs that a scene has: (shape, colour), (bloom, pot colour), (eyes, mouth)."""
    if isinstance(scene, Critter):
        pairs = [(scene.shape, scene.colour, HELD_OUT_BODIES)]
    else:
        pairs = [(scene.bloom, scene.pot_colour, HELD_OUT_POTS)]
    pairs.append((scene.eyes, scene.mouth, HELD_OUT_MOUTHS))
    return [(a, b) for a, b, held_out in pairs if held_out.get(a) == b]


def sample(rng: random.Random, held_out: bool = False) -> Scene:
    """A training scene, or one with a held-out pair; a critter or a sprout, as often."""
    kind = rng.choice((Critter, Sprout))
    while True:
        scene = kind(**{name: rng.choice(options) for name, options in OPTIONS[kind].items()})
        if exists(scene) and bool(held_out_pairs(scene)) == held_out:
            return scene


def swapped(scene: Scene) -> Scene | None:
    """Its two colours exchanged: 'a blue tulip in a red pot' for 'a red tulip in a blue pot'.

    None where there are no two colours, or where the bloom would be green.
    """
    if isinstance(scene, Critter):
        return replace(scene, colour=scene.top_colour, top_colour=scene.colour)
    if scene.bloom == NO_BLOOM or scene.pot_colour not in BLOOMS:
        return None
    return replace(scene, bloom=scene.pot_colour, pot_colour=scene.bloom)


def sample_group(rng: random.Random) -> list[Scene]:
    """GROUP different training scenes: one, its swap if it has one, and changes of one attribute.

    Where an attribute cannot change alone (a cactus to a tulip, which needs a colour) another one
    changes.
    """
    base = sample(rng)
    while (other := swapped(base)) is not None and held_out_pairs(other):
        base = sample(rng)
    group = [base] if other is None else [base, other]
    names = rng.sample([field.name for field in fields(base)], len(fields(base)))
    for name in cycle(names):
        options = OPTIONS[type(base)][name]
        changes = [replace(base, **{name: option}) for option in options]
        changes = [c for c in changes if exists(c) and not held_out_pairs(c) and c not in group]
        if changes:
            group.append(rng.choice(changes))
        if len(group) == GROUP:
            return group
