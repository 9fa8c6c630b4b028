"""Attribute binding with ground truth: "a red square above a blue circle" (paper, section 7).

The paper finds that unCLIP binds attributes to objects less reliably than GLIDE (figures 14 and
15), because CLIP's embedding does not contain which colour belongs to which shape. Here CLIP takes
the swap test on real pictures. Then a judge reads the drawings of unCLIP and of GLIDE. A drawing is
right, or has the colours swapped, or is wrong in another way. Letters: n pairs of scenes or n
prompts.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import embed
from minidalle2.evaluation.rows import gap_row, row
from minidalle2.evaluation.swaps import VERDICTS, score_rows
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING, read_drawn
from minidalle2.worlds.shapes.evaluation.prompts import follows
from minidalle2.worlds.shapes.judge import Judge
from minidalle2.worlds.shapes.scenes import (
    Scenes,
    concatenate,
    holds_held_out_combination,
    holds_held_out_pair,
    sample_scenes,
)

SPLITS = ("seen", "pairs")
UNCLIP, GLIDE = "unCLIP", "GLIDE"
GAP = "unCLIP less GLIDE, {}"
WIDEST = 0.15  # largest useful width of the interval of a difference


def swapped(scenes: Scenes) -> Scenes:
    """The same scenes, with the colours of their first two objects exchanged."""
    return replace(scenes, colour=scenes.colour[:, torch.tensor([1, 0, 2])])


def swap_pairs(split: str, n: int, seed: int) -> tuple[Scenes, Scenes]:
    """n scenes of two objects of two colours, and the same scenes with the colours swapped.

    Their captions contain the places, but neither sizes nor background. For `seen`, nothing in
    either scene is held out. For `pairs`, the first scene has a held-out pair of shape and colour,
    but the second may have none. Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"there are no swaps in the split {split!r}; use {' or '.join(SPLITS)}")
    generator, parts, missing = torch.Generator().manual_seed(seed), [], n
    while missing:
        scenes = sample_scenes(2 * missing, split, generator, ("two",))
        fit = scenes.colour[:, 0] != scenes.colour[:, 1]
        if split == "seen":
            other = swapped(scenes)
            fit &= ~holds_held_out_pair(other) & ~holds_held_out_combination(other)
        parts.append(scenes[fit][:missing])
        missing -= len(parts[-1])
    scenes = concatenate(parts)
    scenes.says_places[:] = True
    scenes.says_sizes[:] = scenes.says_background[:] = False
    return scenes, swapped(scenes)


def captions_of(pair: tuple[Scenes, Scenes], seed: int) -> tuple[list[str], list[str]]:
    """Captions of both scenes of each pair. Their phrasing is equal, only the colours differ."""
    one, other = (describe(scenes, random.Random(seed)) for scenes in pair)
    return one, other


@torch.no_grad()
def swap_similarities(dalle2: DALLE2, split: str, n: int, seed: int) -> Tensor:
    """→ (n, 2, 2) cosines: [pair, picture of the pair, caption of the pair]."""
    pair, size = swap_pairs(split, n, seed), dalle2.clip.config.image_size
    z_i = torch.stack([embed(dalle2.clip, draw(scenes, size)) for scenes in pair], dim=1)
    z_t = torch.stack(
        [
            dalle2.clip.encode_text(dalle2.tokenizer(captions).to(dalle2.device)).cpu()
            for captions in captions_of(pair, seed)
        ],
        dim=1,
    )
    return z_i @ z_t.mT


def verdicts(asked: Scenes, other: Scenes, seen: dict[str, Tensor]) -> list[str]:
    """The verdict on each drawing: `right`, `swapped` or `other`.

    `right`: the picture shows what its caption says. `swapped`: the picture shows what the caption
    with swapped colours says, which is the binding error. `other`: anything else.
    """
    right, swap = follows(asked, seen), follows(other, seen)
    return [
        "right" if r else "swapped" if s else "other"
        for r, s in zip(right.tolist(), swap.tolist(), strict=True)
    ]


def drawn_rows(
    model: DALLE2, judge: Judge, label: str, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> list[dict]:
    """A row for each verdict on n drawings.

    Half of the prompts are captions of scenes, the other half are captions of the same scenes with
    swapped colours.
    """
    pair = swap_pairs("seen", -(-n // 2), seed)
    asked, other = concatenate(list(pair))[:n], concatenate(list(pair[::-1]))[:n]
    prompts = [caption for captions in captions_of(pair, seed) for caption in captions][:n]
    found = verdicts(asked, other, read_drawn(model, judge, prompts, sampling))
    return [
        row("binding", f"{label}: {name}", "seen", found.count(key), n)
        for key, name in VERDICTS.items()
    ]


def binding_rows(
    dalle2: DALLE2, judge: Judge, twin: DALLE2, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> Iterator[dict]:
    """CLIP's swap test on n pairs of each split, and the verdicts on n drawings of each model.

    `twin` is GLIDE. The last two rows are the differences between unCLIP and GLIDE in right
    drawings and in swapped drawings.
    """
    for split in SPLITS:
        yield from score_rows("binding", swap_similarities(dalle2, split, n, seed), split)
    ours = drawn_rows(dalle2, judge, UNCLIP, n, seed, sampling)
    yield from ours
    theirs = drawn_rows(twin, judge, GLIDE, n, seed, sampling)
    yield from theirs
    for k, name in enumerate(("all right", "colours swapped")):
        yield gap_row("binding", GAP.format(name), ours[k], theirs[k])


def is_measured(rows: list[dict]) -> bool:
    """Whether both differences were measured, with intervals narrow enough to be useful.

    Their signs do not matter.
    """
    gaps = [row for row in rows if row["name"].startswith(GAP.format(""))]
    return len(gaps) == 2 and all(row["high"] - row["low"] <= WIDEST for row in gaps)
