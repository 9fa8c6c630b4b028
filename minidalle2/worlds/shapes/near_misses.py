"""Groups of scenes that differ in one attribute, or in which object has which colour.

CLIP learns only what it needs to tell the pairs of a batch apart. In a batch of random scenes,
almost any attribute is enough, so CLIP does not learn which colour belongs to which shape. In a
group of near misses, CLIP needs the one attribute that differs. Letters: B scenes.
"""

import torch
from torch import Tensor

from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    JITTER,
    KINDS,
    PLACE_X,
    PLACE_Y,
    SHAPES,
    SIZES,
    SLOTS,
    WORDS,
    Scenes,
    draw_places,
    holds_held_out_combination,
    holds_held_out_pair,
    sample_scenes,
)

# Row r of a group has change r. Row 0 is the base scene itself.
CHANGES = (
    "nothing",
    "shape",
    "colour",
    "size",
    "swapped colours",
    "swapped places",
    "layout",
    "setting",
)
GROUP = len(CHANGES)


def sample_near_misses(
    n: int, generator: torch.Generator, kinds: tuple[str, ...] = KINDS
) -> Scenes:
    """n training scenes, in groups of GROUP neighbours. Their captions contain all attributes."""
    base = sample_scenes(-(-n // GROUP), "train", generator, kinds)
    base.says_sizes[:] = base.says_places[:] = base.says_background[:] = True
    base = base[torch.arange(len(base)).repeat_interleave(GROUP)[:n]]
    scenes = _change_once(base, generator)
    for _ in range(5):  # scenes that are unchanged or held out are drawn again
        scenes = _where(_unfit(scenes, base), _change_once(base, generator), scenes)
    scenes = _where(_unfit(scenes, base), base, scenes)
    return _jitter(scenes, generator)


def _unfit(scenes: Scenes, base: Scenes) -> Tensor:
    """(B,) bool: the scene is equal to its base, or it is held out from training."""
    names = ("shape", "colour", "size", "place", "background", "word")
    same = [(getattr(scenes, k) == getattr(base, k)).reshape(len(base), -1).all(1) for k in names]
    return (
        torch.stack(same).all(0) | holds_held_out_pair(scenes) | holds_held_out_combination(scenes)
    )


def _change_once(base: Scenes, generator: torch.Generator) -> Scenes:
    """Returns each scene with the change of its row in the group."""
    n = len(base)
    change = (torch.arange(n) % GROUP)[:, None]

    def changes(*names: str) -> Tensor:  # (B, 1) bool: the row has one of these changes
        return torch.isin(change, torch.tensor([CHANGES.index(name) for name in names]))

    def shift(high: int) -> Tensor:  # to be added modulo `high`; never 0
        return torch.randint(1, high, (n, 1), generator=generator)

    # A swap needs two objects. With fewer, its row has another change of the shape or the colour.
    several, no_object = base.count[:, None] >= 2, base.count[:, None] == 0
    new_shape = changes("shape") | (changes("swapped places") & ~several)
    new_colour = changes("colour") | (changes("swapped colours") & ~several)
    present = base.shape >= 0
    # One random object of the scene is changed, if there is any.
    score = torch.rand(n, SLOTS, generator=generator).masked_fill(~present, -1)
    chosen = present & (score == score.amax(1, keepdim=True))

    scenes = base[torch.arange(n)]
    scenes.shape = _shifted(base.shape, chosen & new_shape, shift(len(SHAPES)), len(SHAPES))
    scenes.colour = _shifted(base.colour, chosen & new_colour, shift(len(COLOURS)), len(COLOURS))
    scenes.size = _shifted(base.size, chosen & changes("size"), 1, len(SIZES))
    swap = torch.tensor([1, 0, 2])  # the first two objects
    scenes.colour = torch.where(
        several & changes("swapped colours"), base.colour[:, swap], scenes.colour
    )
    scenes.place = torch.where(several & changes("swapped places"), base.place[:, swap], base.place)
    places = draw_places(base.count, base.word >= 0, generator)
    scenes.place = torch.where(present & changes("layout"), places, scenes.place)
    # The setting is the word if there is a sign, and else the background. A sign without an object
    # has only these two attributes, so every row but the first changes one of them.
    sign = base.word[:, None] >= 0
    setting = changes("setting") | (no_object & ~changes("nothing"))
    new_word = setting & sign & ~(no_object & changes("colour", "size"))
    word = _shifted(base.word[:, None], new_word, shift(len(WORDS)), len(WORDS))
    background = _shifted(
        base.background[:, None], setting & ~new_word, shift(len(BACKGROUNDS)), len(BACKGROUNDS)
    )
    scenes.word, scenes.background = word[:, 0], background[:, 0]
    return scenes


def _shifted(values: Tensor, where: Tensor, shift: Tensor | int, high: int) -> Tensor:
    return torch.where(where, (values + shift) % high, values)


def _where(condition: Tensor, scenes: Scenes, others: Scenes) -> Scenes:
    """Rows of `scenes` where the condition holds, and of `others` elsewhere."""
    index = torch.arange(len(scenes))
    picked = others[index]
    picked_rows = condition.nonzero()[:, 0]
    for name, value in vars(scenes).items():
        getattr(picked, name)[picked_rows] = value[picked_rows]
    return picked


def _jitter(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """New random offsets from the places, so that two scenes of a group have different pixels."""
    jitter = (torch.rand(len(scenes), SLOTS, 2, generator=generator) * 2 - 1) * JITTER
    present = scenes.place >= 0
    scenes.x = torch.where(present, PLACE_X[scenes.place] + jitter[..., 0], -1.0)
    scenes.y = torch.where(present, PLACE_Y[scenes.place] + jitter[..., 1], -1.0)
    return scenes
