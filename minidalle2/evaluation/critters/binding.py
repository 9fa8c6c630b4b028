"""Attribute binding: a red tulip in a blue pot, or a blue tulip in a red pot?

The question that DALL·E 2 is known to answer badly (paper, section 7), asked of CLIP, with pictures
and captions of a scene and of the same scene with its two colours exchanged, as in Winoground
(Thrush et al. 2022); and of drawn pictures, which a judge reads back.
"""

import random
from functools import cache

import numpy as np
import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.critters.judge import Judge, read
from minidalle2.evaluation.drawn import BATCH, draw_prompts
from minidalle2.evaluation.rows import row
from minidalle2.evaluation.swaps import VERDICTS, score_rows
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.critters import drawing
from minidalle2.worlds.critters.captions import describe
from minidalle2.worlds.critters.scenes import (
    COLOURS, GROUP, Critter, Scene, held_out_pairs, sample, swapped,
)  # fmt: skip
from minidalle2.worlds.critters.world import GROUPS, OTHERS, planned
from minidalle2.worlds.stored import SIDE

SPLITS = ("seen", "pairs")

Pair = tuple[Scene, Scene]  # a scene, and the one with its two colours exchanged


def swap_pairs(split: str, n: int, seed: int) -> list[Pair]:
    """n pairs of scenes that are not in training.

    `seen`: neither scene has a held-out pair of attributes. `pairs`: the first has one of colours;
    the second may have none. Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"no swaps in the split {split!r}; {' and '.join(SPLITS)} have them")
    rng, pairs = random.Random(f"swaps {split} {seed}"), []
    while len(pairs) < n:
        scene = sample(rng, held_out=split == "pairs")
        other = swapped(scene)
        if other is None or {scene, other} & _training_scenes():
            continue
        colours = [pair for pair in held_out_pairs(scene) if pair[1] in COLOURS]
        if colours if split == "pairs" else not held_out_pairs(other):
            pairs.append((scene, other))
    return pairs


@cache
def _training_scenes() -> frozenset[Scene]:
    scenes, _ = planned(GROUPS, OTHERS)
    return frozenset(scenes[: GROUPS * GROUP])


def captions_of(pairs: list[Pair], seed: int) -> list[tuple[str, str]]:
    """Captions that say everything; those of a pair are phrased alike and differ in the colours."""
    return [
        tuple(describe(scene, random.Random(f"{seed} {i}"), everything=True) for scene in pair)
        for i, pair in enumerate(pairs)
    ]


def draw_scenes(scenes: list[Scene], shifts: list[float], size: int) -> Tensor:
    """→ (B, 3, size, size) in [-1, 1], averaged down from 128 px as in training."""
    drawn = [
        np.asarray(drawing.draw(scene, shift, SIDE).reduce(SIDE // size))
        for scene, shift in zip(scenes, shifts, strict=True)
    ]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def swap_similarities(clip: CLIP, tokenizer: Tokenizer, pairs: list[Pair], seed: int) -> Tensor:
    """→ (n, 2, 2): of each pair, of each of its pictures, of each of its captions.

    Both pictures stand equally far off the middle, so only colours tell them apart.
    """
    device, rng, parts = next(clip.parameters()).device, random.Random(seed), []
    captions = captions_of(pairs, seed)
    for i in range(0, len(pairs), BATCH):
        scenes = [scene for pair in pairs[i : i + BATCH] for scene in pair]
        texts = [text for pair in captions[i : i + BATCH] for text in pair]
        shifts = [shift for _ in scenes[::2] for shift in [drawing.shift_of(rng)] * 2]
        images = draw_scenes(scenes, shifts, clip.config.image_size)
        z_i = clip.encode_image(images.to(device)).unflatten(0, (-1, 2))
        z_t = clip.encode_text(tokenizer(texts).to(device)).unflatten(0, (-1, 2))
        parts.append((z_i @ z_t.mT).cpu())
    return torch.cat(parts)


def clip_rows(clip: CLIP, tokenizer: Tokenizer, split: str, n: int, seed: int) -> list[dict]:
    similarity = swap_similarities(clip, tokenizer, swap_pairs(split, n, seed), seed)
    return score_rows("clip", similarity, split)


def verdict(asked: Scene, shown: Scene) -> str:
    """`right`: all is as asked. `swapped`: each of the two colours is where the other belongs,
    whatever else is wrong: the binding error. `other`: anything else is wrong."""
    if shown == asked:
        return "right"
    if type(shown) is type(asked) and _colours(shown) == _colours(asked)[::-1]:
        return "swapped"
    return "other"


def _colours(scene: Scene) -> tuple[str, str]:
    if isinstance(scene, Critter):
        return scene.colour, scene.top_colour
    return scene.bloom, scene.pot_colour


def prompt_rows(
    dalle2: DALLE2, judge: Judge, split: str, n: int, seed: int, sampling: Sampling | None = None
) -> list[dict]:
    """Draw n captions, each followed by its swap, judge them, and count the verdicts."""
    pairs = swap_pairs(split, -(-n // 2), seed)
    asked = [scene for pair in pairs for scene in pair][:n]
    prompts = [text for pair in captions_of(pairs, seed) for text in pair][:n]
    drawn = draw_prompts(dalle2, prompts, sampling)
    shown = [scene for made in drawn for scene in read(judge, made.image128)]
    verdicts = [verdict(*pair) for pair in zip(asked, shown, strict=True)]
    return [row("prompts", name, split, verdicts.count(key), n) for key, name in VERDICTS.items()]
