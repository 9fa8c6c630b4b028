"""Prompt accuracy: the share of pictures of new prompts that show everything the prompt says."""

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.rows import row
from minidalle2.worlds.batches import caption_rng
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.evaluation.drawn import read_drawn
from minidalle2.worlds.shapes.judge import NOTHING, Judge, word_of
from minidalle2.worlds.shapes.scenes import SLOTS, WORDS, Scenes, sample_scenes

ROWS = {  # name: (split, kind)
    "one object": ("seen", "one"),
    "two objects": ("seen", "two"),
    "three objects": ("seen", "three"),
    "words": ("seen", "words"),
    "held-out pairs, one object": ("pairs", "one"),
    "held-out pairs, two objects": ("pairs", "two"),
    "held-out combinations": ("combinations", "two"),
    "held-out phrasings, one object": ("phrasings", "one"),
    "held-out phrasings, two objects": ("phrasings", "two"),
}


def prompt_row(
    dalle2: DALLE2, judge: Judge, name: str, n: int, seed: int, sampling: Sampling | None = None
) -> dict:
    """Draws n prompts of a row of ROWS and judges the pictures at 128 px."""
    scenes, prompts = asked(name, n, seed)
    answers = read_drawn(dalle2, judge, prompts, sampling, activity=f"drawing {name}")
    right = follows(scenes, answers)
    return row("prompts", name, ROWS[name][0], int(right.sum()), n)


def asked(name: str, n: int, seed: int) -> tuple[Scenes, list[str]]:
    """n scenes of a row of ROWS and their prompts."""
    split, kind = ROWS[name]
    # With the same seed, different rows have different scenes.
    generator = torch.Generator().manual_seed(1_000 * seed + list(ROWS).index(name))
    scenes = sample_scenes(n, split, generator, (kind,))
    return scenes, describe(scenes, caption_rng(generator), split)


def follows(scenes: Scenes, answers: dict[str, Tensor]) -> Tensor:
    """(B,) bool: the picture, as the judge reads it, shows what the caption says, and nothing else.

    Every object must have its shape and colour. Sizes, places, the background and the word must be
    right if the caption contains them.
    """
    return torch.tensor([_follows(scenes, answers, b) for b in range(len(scenes))])


def _follows(scenes: Scenes, answers: dict[str, Tensor], b: int) -> bool:
    says_size, says_place = bool(scenes.says_sizes[b]), bool(scenes.says_places[b])
    word = WORDS[scenes.word[b]] if scenes.word[b] >= 0 else ""
    says_place |= word != ""  # captions of signs always contain the place of the object

    def said(shape: int, colour: int, size: int, place: int) -> tuple:
        return shape, colour, size if says_size else None, place if says_place else None

    asked = [
        said(*(int(getattr(scenes, name)[b, k]) for name in ("shape", "colour", "size", "place")))
        for k in range(SLOTS)
        if scenes.shape[b, k] >= 0
    ]
    seen = [
        said(*(int(answers[name][b, place]) for name in ("shape", "colour", "size")), place)
        for place in range(answers["shape"].shape[1])
        if answers["shape"][b, place] != NOTHING
    ]
    same_objects = sorted(asked, key=str) == sorted(seen, key=str)
    background = answers["background"][b, 0] == scenes.background[b]
    same_background = bool(background) or not scenes.says_background[b]
    return same_objects and same_background and word_of(answers["letters"][b]) == word
