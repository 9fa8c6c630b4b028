"""Groups of scenes that differ in one attribute, or in which object wears which colour.

CLIP learns only what tells a batch apart. Among random scenes almost anything does, so which colour
belongs to which shape goes unlearned; among near misses nothing else is left to learn.
"""

import torch
from torch import Tensor

from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS, COLOURS, JITTER, PLACE_X, PLACE_Y, SHAPES, SLOTS, WORDS, Scenes,
    draw_places, holds_held_out_combination, holds_held_out_pair, sample_scenes,
)  # fmt: skip

GROUP = 8
CHANGES = 7  # shape, colour, size, swapped colours, swapped places, layout, background or word


def sample_near_misses(n: int, generator: torch.Generator) -> Scenes:
    """n training scenes in groups of GROUP neighbours; their captions say everything."""
    base = sample_scenes(-(-n // GROUP), "train", generator)
    base.says_sizes[:] = base.says_places[:] = base.says_background[:] = True
    base = base[torch.arange(len(base)).repeat_interleave(GROUP)[:n]]
    scenes = _change_once(base, generator)
    for _ in range(4):  # a change that left training is drawn again, and at last taken back
        left = holds_held_out_pair(scenes) | holds_held_out_combination(scenes)
        scenes = _where(left, _change_once(base, generator), scenes)
    left = holds_held_out_pair(scenes) | holds_held_out_combination(scenes)
    left |= torch.arange(n) % GROUP == 0  # the first of a group is the scene itself
    return _jitter(_where(left, base, scenes), generator)


def _change_once(base: Scenes, generator: torch.Generator) -> Scenes:
    """Each scene with one of CHANGES made to it."""
    n = len(base)

    def shift(high: int) -> Tensor:  # added modulo `high`, always changes the value
        return torch.randint(1, high, (n, 1), generator=generator)

    change = torch.randint(CHANGES, (n, 1), generator=generator)
    present = base.shape >= 0
    # One object, if there is any: the chosen slot is a uniform draw among the present ones.
    score = torch.rand(n, SLOTS, generator=generator).masked_fill(~present, -1)
    chosen = present & (score == score.amax(1, keepdim=True))
    several = base.count[:, None] >= 2
    scenes = base[torch.arange(n)]
    scenes.shape = _shifted(base.shape, chosen & (change == 0), shift(len(SHAPES)), len(SHAPES))
    scenes.colour = _shifted(base.colour, chosen & (change == 1), shift(len(COLOURS)), len(COLOURS))
    scenes.size = _shifted(base.size, chosen & (change == 2), 1, 2)
    # Swaps are between the first two objects, where there are two.
    swapped = torch.tensor([1, 0, 2])
    scenes.colour = torch.where(several & (change == 3), base.colour[:, swapped], scenes.colour)
    scenes.place = torch.where(several & (change == 4), base.place[:, swapped], base.place)
    places = draw_places(base.count, base.word >= 0, generator)
    scenes.place = torch.where(present & (change == 5), places, scenes.place)
    last = (change == 6) | ((change >= 3) & (change < 5) & ~several)
    sign = base.word[:, None] >= 0
    word = _shifted(base.word[:, None], last & sign, shift(len(WORDS)), len(WORDS))
    background = _shifted(
        base.background[:, None], last & ~sign, shift(len(BACKGROUNDS)), len(BACKGROUNDS)
    )
    scenes.word, scenes.background = word[:, 0], background[:, 0]
    return scenes


def _shifted(values: Tensor, where: Tensor, shift: Tensor | int, high: int) -> Tensor:
    return torch.where(where, (values + shift) % high, values)


def _where(condition: Tensor, scenes: Scenes, others: Scenes) -> Scenes:
    """Rows of `scenes` where the condition holds, of `others` elsewhere."""
    index = torch.arange(len(scenes))
    picked = others[index]
    picked_rows = condition.nonzero()[:, 0]
    for name, value in vars(scenes).items():
        getattr(picked, name)[picked_rows] = value[picked_rows]
    return picked


def _jitter(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Fresh positions around the places, so that no two of a group agree in pixels."""
    jitter = (torch.rand(len(scenes), SLOTS, 2, generator=generator) * 2 - 1) * JITTER
    present = scenes.place >= 0
    scenes.x = torch.where(present, PLACE_X[scenes.place] + jitter[..., 0], -1.0)
    scenes.y = torch.where(present, PLACE_Y[scenes.place] + jitter[..., 1], -1.0)
    return scenes
