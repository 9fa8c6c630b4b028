"""Scenes → captions, in several phrasings.

A caption always names the body and its colour, or the plant, the pot and their colours; what is on
the head, the face and the background only now and then, unless it is to say everything.
"""

import random

from minidalle2.worlds.critters.scenes import Critter, Scene, Sprout

PHRASINGS = ("{it}", "a picture of {it}", "there is {it}")
BACKGROUNDS = ("{it} on a {background} background", "{it}, {background} background")
SAYS_TOP, SAYS_FACE, SAYS_BACKGROUND = 0.85, 0.6, 0.5  # how often each is named
TOPS = {
    "horns": "{} horns", "round ears": "round {} ears", "pointed ears": "pointed {} ears",
    "antennae": "{} antennae", "fin": "a {} fin", "pompom": "a {} pompom", "leaves": "{} leaves",
}  # fmt: skip
PLANTS = {
    "tulip": "a {} tulip", "flower": "a {} flower", "buds": "two {} buds", "cactus": "a cactus",
    "palm tree": "a palm tree", "bush": "a bush", "grass": "some grass", "seedling": "a seedling",
    "succulent": "a succulent",
}  # fmt: skip
POTS = {
    "pot": "a {} pot", "bowl": "a {} bowl", "round pot": "a round {} pot",
    "square pot": "a square {} pot",
}  # fmt: skip
EYES = {
    "round": "round eyes", "black": "small black eyes", "happy": "happy eyes",
    "winking": "one winking eye", "sleepy": "sleepy eyes", "angry": "angry eyes",
    "one": "one big eye", "three": "three eyes",
}  # fmt: skip
MOUTHS = {
    "smile": "a smile", "laugh": "a laughing mouth", "open": "an open mouth",
    "straight": "a straight mouth", "frown": "a frown", "tooth": "a single tooth",
}  # fmt: skip


def describe(scene: Scene, rng: random.Random, everything: bool = False) -> str:
    """One caption; with `everything` it names all attributes, so different scenes differ in it."""

    def says(probability: float) -> bool:
        return everything or rng.random() < probability

    has = []
    if isinstance(scene, Critter) and says(SAYS_TOP):
        has.append(_coloured(TOPS[scene.top], scene.top_colour))
    if says(SAYS_FACE):
        has += [EYES[scene.eyes], MOUTHS[scene.mouth]]
    it = _body(scene)
    if has:
        it += f" with {_listed(has)}"
    if says(SAYS_BACKGROUND):
        it = rng.choice(BACKGROUNDS).format(it=it, background=scene.background)
    plural = isinstance(scene, Sprout) and scene.plant == "buds"
    return _verb(rng.choice(PHRASINGS), plural).format(it=it)


def _body(scene: Scene) -> str:
    if isinstance(scene, Critter):
        return f"a {scene.shape} {scene.colour} critter"
    pot = _coloured(POTS[scene.pot], scene.pot_colour)
    return f"{_coloured(PLANTS[scene.plant], scene.bloom)} in {pot}"


def _coloured(phrase: str, colour: str) -> str:
    """'a {} pot' and 'orange' → 'an orange pot'."""
    if phrase.startswith("a {}") and colour[0] in "aeiou":
        phrase = "an" + phrase[1:]
    return phrase.format(colour)


def _listed(parts: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _verb(phrasing: str, plural: bool) -> str:
    return phrasing.replace("there is", "there are") if plural else phrasing
