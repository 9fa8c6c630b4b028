"""Scenes → pictures, by DiceBear's drawings and a renderer of vector graphics.

The styles Critters and Sprouts are by DiceBear (https://www.dicebear.com), CC0 1.0 Universal
(https://creativecommons.org/publicdomain/zero/1.0/): free for any use, no attribution needed. They
come with the package dicebear-styles; nothing of them is copied here. See README.md beside this.
"""

import io
import json
import random
from functools import cache
from importlib.resources import files

from PIL import Image

from minidalle2.worlds.critters.scenes import Critter, Scene

COLOUR_HEX = {
    "red": "e63c3c", "orange": "f58c1e", "yellow": "fad73c", "green": "46b45a",
    "cyan": "3cc8e1", "blue": "4678e6", "purple": "a05fd7", "pink": "f582be",
}  # fmt: skip  # light enough for dark mouths
BACKGROUND_HEX = {"white": "fafafa", "gray": "a0a0a0", "black": "191919", "beige": "e1cdaa"}
PLANT_HEX = "2da046"
# Our words → DiceBear's names of the parts.
BODIES = {
    "round": "round", "square": "block", "tall": "tower", "lumpy": "blob", "pointed": "peak",
    "bell-shaped": "bell", "tapering": "wedge", "stepped": "steps",
}  # fmt: skip
TOPS = {
    "horns": "horns", "round ears": "earsRound", "pointed ears": "earsPointy",
    "antennae": "antennae", "fin": "fin", "pompom": "bobble", "leaves": "sprout",
}  # fmt: skip
PLANTS = {
    "tulip": "tulip", "flower": "flower", "buds": "buds", "cactus": "cactus", "palm tree": "palm",
    "bush": "bush", "grass": "grass", "seedling": "sprout", "succulent": "succulent",
}  # fmt: skip
POTS = {"pot": "taper", "bowl": "bowl", "round pot": "round", "square pot": "cylinder"}
EYES = {
    "round": "round", "black": "dots", "happy": "happy", "winking": "wink", "sleepy": "sleepy",
    "angry": "angry", "one": "mono", "three": "trio",
}  # fmt: skip
MOUTHS = {
    "smile": "smile", "laugh": "grin", "open": "open", "straight": "line", "frown": "frown",
    "tooth": "tooth",
}  # fmt: skip
SHIFT = 8  # per cent of the side that a drawing stands off the middle at most
TALL_DOWN = 8  # per cent that tall critters stand lower, for the top of their heads to be seen
PACKAGES = "pip install resvg-py dicebear-core dicebear-styles"


def check_packages() -> None:
    """Raises ValueError where what draws critters is not installed."""
    try:
        import dicebear  # noqa: F401
        import dicebear_styles  # noqa: F401
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"the critters world is drawn by packages that are not installed; `{PACKAGES}` "
            "installs them"
        ) from error


def draw(scene: Scene, shift: float, size: int) -> Image.Image:
    """→ RGB (size, size), the drawing `shift` per cent of the side off the middle, to the right."""
    import resvg_py
    from dicebear import Avatar

    style, parts = _parts(scene)
    options = {
        "seed": "", "size": size, "translateX": shift, "animationProbability": 0,
        "patternProbability": 0, "cheeksProbability": 0, "topProbability": 100,
        "eyesVariant": [EYES[scene.eyes]], "mouthVariant": [MOUTHS[scene.mouth]],
        "backgroundColor": [BACKGROUND_HEX[scene.background]],
    }  # fmt: skip
    if style == "sprouts":
        del options["topProbability"]
    svg = Avatar(_style(style), {**options, **parts}).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGB")


def shift_of(rng: random.Random) -> float:
    return round(rng.uniform(-SHIFT, SHIFT), 2)


def _parts(scene: Scene) -> tuple[str, dict]:
    """→ DiceBear's style and its options for what only this kind of scene has."""
    if isinstance(scene, Critter):
        return "critters", {
            "translateY": TALL_DOWN if scene.shape == "tall" else 0,
            "bodyVariant": [BODIES[scene.shape]], "bodyColor": [COLOUR_HEX[scene.colour]],
            "topVariant": [TOPS[scene.top]], "accentColor": [COLOUR_HEX[scene.top_colour]],
        }  # fmt: skip
    return "sprouts", {
        "plantVariant": [PLANTS[scene.plant]], "plantColor": [PLANT_HEX],
        # A bush has dots of its bloom's colour, too small to see: they are green.
        "bloomColor": [COLOUR_HEX.get(scene.bloom, PLANT_HEX)],
        "potVariant": [POTS[scene.pot]], "potColor": [COLOUR_HEX[scene.pot_colour]],
    }  # fmt: skip


@cache
def _style(name: str):
    from dicebear import Style

    return Style(json.loads((files("dicebear_styles") / f"{name}.json").read_text("utf-8")))
